"""What the ranks of a node have once: a failure at each call by which they find one another, collect and share, on each rank.

1,000 files of 2 tensors: their list is kept once a node, and so the catalogue is joined there. 600 of 150 with cuts of their own:
boxes lie in shared memory, too.
"""

import os
import shutil

import catalogue
import oracle
import pytest
from conftest import calls_of
from runner import SHARDWELD, errors, ok, run, show

NODES = os.path.join(os.path.dirname(SHARDWELD), "tests", "nodes.so")
# What each is, in the message. Where messages do not get through, the rank that knows ends all: status 1, and a staging directory
# with nothing in it may stay. Where memory is short all agree: status 4, nothing stays.
BROKEN = {
    "node_split": "cannot split the ranks by nodes",
    "node_send": "communication between the ranks failed",
    "node_receive": "communication between the ranks failed",
    "node_sync": "cannot share memory on the node",
}
MEMORY = {"node_room": "out of memory", "node_keep": "out of memory"}
# Where memory cannot be shared each rank has its own, and the bytes are the same.
OWN = "node_share"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    base = tmp_path_factory.mktemp("shared")
    catalogue.make(str(base / "rows"), 1000, 2)
    catalogue.make_ragged(str(base / "ragged"), 600, 150)
    for src in ("rows", "ragged"):
        ok(run(["consolidate", base / src, base / f"{src}-out"]))
    return base


def environment(directory, nodes):
    lib = directory / "nodes.so"
    if not lib.is_symlink():
        lib.symlink_to(NODES)
    return {"LD_PRELOAD": str(lib), "SHARDWELD_NODES": str(nodes)}


def drill(src, out, env, np, site, rank, nth):
    """One failure. In words what was wrong, or ""."""
    result = run(["consolidate", src, out], np=np, env={**env, "SHARDWELD_FAULT": f"{site}:{rank}:{nth}"}, timeout=60)
    says, left = errors(result), oracle.tree(out)
    shutil.rmtree(out, ignore_errors=True)
    if site == OWN:
        return "" if result.status == 0 and left == oracle.tree(f"{src}-out") and not result.stderr else f"{site}:{rank}:{nth} of {np}: {show(result)}"
    if site in BROKEN:
        right = result.status == 1 and all(name.startswith(".shardweld-staging/") for name in left)
    else:
        right = result.status == 4 and not left
    right = right and len(says) == 1 and {**BROKEN, **MEMORY}[site] in says[0]
    return "" if right else f"{site}:{rank}:{nth} of {np}, left {sorted(left)}: {show(result)}"


@pytest.mark.parametrize("np,nodes", [(2, 1), (3, 1), (3, 2)])
def test_each_call_of_each_rank(inputs, tmp_path, np, nodes):
    env, out = environment(tmp_path, nodes), tmp_path / "out"
    counts = calls_of(tmp_path, lambda listed: ok(run(["consolidate", "-n", inputs / "rows", out], np=np, env={**env, **listed}), quiet=False))
    mine = {(rank, site): n for (rank, site), n in counts.items() if site.startswith("node_")}
    assert {site for _, site in mine} == {*BROKEN, *MEMORY, OWN}, mine
    wrong = [drill(inputs / "rows", out, env, np, site, rank, nth) for (rank, site), n in mine.items() for nth in {1, n}]
    wrong = [w for w in wrong if w]
    assert not wrong, f"{len(wrong)} drills failed:\n" + "\n".join(wrong[:8])


def test_boxes_in_shared_memory(inputs, tmp_path):
    """Behind the list of files comes a window of boxes: its calls are the last ones."""
    env, out, src = environment(tmp_path, 1), tmp_path / "out", inputs / "ragged"
    counts = calls_of(tmp_path, lambda listed: ok(run(["consolidate", "-n", src, out], np=3, env={**env, **listed}), quiet=False))
    assert counts[2, "node_share"] == 2, counts
    wrong = [drill(src, out, env, 3, site, rank, counts[rank, site]) for site in ("node_share", "node_sync") for rank in range(3)]
    assert not any(wrong), "\n".join(wrong)
