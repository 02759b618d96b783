"""examples/read_slice, alone and under mpirun, without a line of MPI in it; it is in $SHARDWELD_BUILD/examples."""

import os
import subprocess

import numpy as np
import oracle
import pytest
from runner import ROOT, environment, ranks

EXAMPLES = os.path.join(os.path.abspath(os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build"))), "examples")


def run(name, *args, np):
    command = [*ranks(np), os.path.join(EXAMPLES, name), *map(str, args)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def small_numbers(rng, shape):
    """Whole numbers that every dtype holds, so that sums do not depend on their order."""
    return rng.integers(-8, 9, shape).astype(np.float32)


def as_bf16(values):
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(4)
    values = {
        "model.embed.weight": small_numbers(rng, (40, 16)),
        "model.norm.weight": small_numbers(rng, (13,)),
        "model.one.weight": small_numbers(rng, (2, 3, 5)),
        "scale": small_numbers(rng, ()),
    }
    tensors = {n: oracle.Tensor("F32", v.shape, v.tobytes()) for n, v in values.items()}
    tensors["model.embed.weight"] = oracle.Tensor("BF16", (40, 16), as_bf16(values["model.embed.weight"]))
    tensors["ids"] = oracle.Tensor("I64", (4,), bytes(32))
    os.makedirs(tmp_path / "in")
    for rank in range(3):
        boxes = {n: (t, oracle.boxes_of(t.shape, (3,), (0 if t.shape else None,))[rank]) for n, t in tensors.items()}
        oracle.write_shard(str(tmp_path / "in" / oracle.shard_name(rank + 1)), boxes)
    return tmp_path / "in", values


@pytest.mark.parametrize("np_", [None, 1, 2, 5])
def test_read_slice(checkpoint, np_):
    path, values = checkpoint
    got = run("read_slice", path, np=np_)
    assert got.returncode == 0, got.stderr
    lines = [f"{n} [{', '.join(map(str, v.shape))}] {v.astype(float).sum():.9g}" for n, v in sorted(values.items())]
    assert got.stdout.splitlines() == lines


def test_read_slice_says_what_is_wrong(checkpoint):
    path, _ = checkpoint
    os.remove(path / oracle.shard_name(2))
    got = run("read_slice", path, np=2)
    assert got.returncode == 3
    assert got.stdout == ""
    assert got.stderr.count("read_slice: ") == 1
    assert "model.embed.weight" in got.stderr
