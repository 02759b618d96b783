"""What all ranks do together costs each of them the slowest one's time: they agree once a step."""

import os

import catalogue
import oracle
import pytest
from runner import SHARDWELD, ok, run

COUNTER = os.path.join(os.path.dirname(SHARDWELD), "tests", "collectives.so")
MOST = 25


def counted(src, out, np, where):
    """[(rank, how many, kinds)] before the first file is open."""
    counts, counter = where / "counts", where / "counter.so"
    # LD_PRELOAD is a list with blanks between: where the tree lies there may be some.
    counter.symlink_to(COUNTER)
    env = {"LD_PRELOAD": str(counter), "SHARDWELD_COLLECTIVES": str(counts)}
    ok(run(["consolidate", src, out], np=np, env=env))
    lines = [line.split() for line in counts.read_text().splitlines()]
    opened = [(int(rank), int(total), kinds) for when, rank, total, *kinds in lines if when == "open"]
    assert sorted(rank for rank, _, _ in opened) == list(range(np)), lines
    return opened


@pytest.mark.parametrize("np", [2, 3])
def test_before_the_first_byte(tmp_path, make, np):
    ckpt = make(tmp_path / "in")
    opened = counted(tmp_path / "in", tmp_path / "out", np, tmp_path)
    assert oracle.difference(oracle.tree(tmp_path / "out"), ckpt.expect()) == ""
    for rank, total, kinds in opened:
        assert 0 < total < MOST, f"rank {rank}: {' '.join(kinds)}"


@pytest.mark.parametrize("files,tensors", [(4, 1000), (64, 1000), (4, 10000)])
def test_as_few_for_many_tensors(tmp_path, files, tensors):
    """What no longer goes with an agreement (the list of files, all entries) has a step of its own, however much it is."""
    catalogue.make(str(tmp_path / "in"), files, tensors)
    for rank, total, kinds in counted(tmp_path / "in", tmp_path / "out", 2, tmp_path):
        assert 0 < total <= MOST, f"rank {rank}: {' '.join(kinds)}"
