"""Many files and many boxes are planned in time and memory that grow with their number, no faster: the measure is what Python takes
to parse the same headers.

bench/scale.py does the same at full size: 4,096 files of 1,000 tensors, 1.5 GiB for two ranks.
"""

import json
import os
import random
import sys
import time

import catalogue
import oracle
import pytest
from runner import HERE, SHARDWELD, ok, run, show

NODES = os.path.join(os.path.dirname(SHARDWELD), "tests", "nodes.so")


def plan(directory, np):
    """Seconds and bytes that `-n` takes, both for all ranks together."""
    peaks, out = directory.with_suffix(f".peaks{np}"), directory.with_suffix(".out")
    begin = time.monotonic()
    prefix = [sys.executable, os.path.join(HERE, "peak.py"), str(peaks)]
    result = run(["consolidate", "-n", directory, out], np=np, prefix=prefix)
    seconds = time.monotonic() - begin
    assert result.status == 0, show(result)
    assert not out.exists()
    return seconds, sum(int(line) for line in peaks.read_text().split())


def parse(directory):
    """Seconds that Python takes to read all headers, and the sharding info in them."""
    begin = time.monotonic()
    for path in directory.iterdir():
        with open(path, "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        assert json.loads(header["__metadata__"]["DCP_SHARDING_INFO"])
    return time.monotonic() - begin


def plan_in_time(directory, np):
    """The memory; the time is at most three times that of starting up and of Python's json, at the same hour on this machine."""
    catalogue.make(str(directory.with_name("one")), 1, 1)
    limit = 3 * (plan(directory.with_name("one"), np)[0] + parse(directory))
    seconds, memory = plan(directory, np)
    assert seconds <= limit
    return memory


@pytest.mark.parametrize("np", [1, 2])
def test_256_files_of_1000_tensors(tmp_path, np):
    catalogue.make(str(tmp_path / "in"), 256, 1000)
    memory = plan_in_time(tmp_path / "in", np)
    assert memory <= np * (48 << 20) + (96 << 20), memory


def test_a_grid_of_64_by_64(tmp_path):
    catalogue.make_grid(str(tmp_path / "in"), 64, 64)
    memory = plan_in_time(tmp_path / "in", 2)
    assert memory <= 2 * (64 << 20), memory


def test_a_thousand_rows_of_one_tensor(tmp_path):
    catalogue.make(str(tmp_path / "in"), 1000, 1)
    plan_in_time(tmp_path / "in", 2)


def on_nodes(directory, nodes):
    """The environment of a run whose ranks are spread over so many nodes, one after the other."""
    lib = directory / "nodes.so"
    if not lib.is_symlink():
        lib.symlink_to(NODES)
    return {"LD_PRELOAD": str(lib), "SHARDWELD_NODES": str(nodes)}


@pytest.mark.parametrize("shape", ["rows", "ragged"])
def test_a_catalogue_a_node(tmp_path, shape):
    """Listed and joined once a node, by rule or in memory that the ranks of a node share: the plan is that of one process."""
    (catalogue.make if shape == "rows" else catalogue.make_ragged)(str(tmp_path / "in"), 512, 500)
    ok(run(["consolidate", tmp_path / "in", tmp_path / "alone"]))
    want = oracle.tree(tmp_path / "alone")
    for nodes in (2, 5):
        out = tmp_path / f"out{nodes}"
        ok(run(["consolidate", tmp_path / "in", out], np=5, env=on_nodes(tmp_path, nodes)))
        assert oracle.difference(oracle.tree(out), want) == ""
    # a lost shard is told of by the same words, wherever the ranks are
    os.unlink(tmp_path / "in" / oracle.shard_name(100))
    for np in (1, 5):
        result = run(["verify", tmp_path / "in", tmp_path / "alone"], np=np, env=on_nodes(tmp_path, 2))
        assert result.status == 3 and result.stderr.count("shard 100 of model 1 is missing") == 1, show(result)


def test_a_list_a_node(tmp_path):
    """Any number of files, ranks and nodes: the list of files lies once a node, and the plan is that of one process."""
    seed = random.randrange(1 << 32)
    some = random.Random(seed)
    files = some.randint(900, 1300)
    catalogue.make(str(tmp_path / "in"), files, some.randint(1, 5))
    ok(run(["consolidate", tmp_path / "in", tmp_path / "alone"]))
    want = oracle.tree(tmp_path / "alone")
    for np in some.sample(range(2, 9), 3):
        nodes, out = some.randint(1, np), tmp_path / f"out{np}"
        ok(run(["consolidate", tmp_path / "in", out], np=np, env=on_nodes(tmp_path, nodes)))
        assert oracle.difference(oracle.tree(out), want) == "", f"seed {seed}: {files} files, {np} ranks, {nodes} nodes"
