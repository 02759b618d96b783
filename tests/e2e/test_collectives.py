"""What all ranks do together costs each of them the slowest one's time: they agree once a step."""

import os

import oracle
import pytest
from runner import SHARDWELD, ok, run

COUNTER = os.path.join(os.path.dirname(SHARDWELD), "tests", "collectives.so")
MOST = 25


@pytest.mark.parametrize("np", [2, 3])
def test_before_the_first_byte(tmp_path, make, np):
    ckpt = make(tmp_path / "in")
    counts = tmp_path / "counts"
    # LD_PRELOAD is a list with blanks between: where the tree lies there may be some.
    counter = tmp_path / "counter.so"
    counter.symlink_to(COUNTER)
    env = {"LD_PRELOAD": str(counter), "SHARDWELD_COLLECTIVES": str(counts)}
    ok(run(["consolidate", tmp_path / "in", tmp_path / "out"], np=np, env=env))
    assert oracle.difference(oracle.tree(tmp_path / "out"), ckpt.expect()) == ""
    lines = [line.split() for line in counts.read_text().splitlines()]
    opened = [line for line in lines if line[0] == "open"]
    assert sorted(int(line[1]) for line in opened) == list(range(np)), lines
    for _, rank, total, *kinds in opened:
        assert 0 < int(total) <= MOST, f"rank {rank}: {' '.join(kinds)}"
