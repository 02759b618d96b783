"""Fixtures of the end-to-end tests: a small checkpoint of many kinds, and a place to work in."""

import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import oracle  # noqa: E402
import runner  # noqa: E402


SEED = int(os.environ.get("SEED") or int.from_bytes(os.urandom(4), "big"))


def pytest_report_header(config):
    return f"program: {runner.SHARDWELD}; SEED={SEED} repeats the random tests"


def pytest_configure(config):
    if not os.access(runner.SHARDWELD, os.X_OK):
        raise pytest.UsageError(f"{runner.SHARDWELD} is not there: build it, or set SHARDWELD")


@pytest.fixture
def rng():
    return np.random.default_rng(20240511)


@pytest.fixture
def dirs(tmp_path):
    """(input, output): the first made, the second not there."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


class Checkpoint:
    """A sharded checkpoint on disk and the full tensors that it stands for."""

    def __init__(self, path, tensors, boxes, models=None, replicas=False):
        self.path, self.tensors, self.boxes, self.models = path, tensors, boxes, models
        oracle.write_sharded(path, tensors, boxes, models, replicas)

    def expect(self, files=None, index=oracle.INDEX):
        """{name: bytes} of the consolidated checkpoint; files: {fqn: file name}."""
        files = files or oracle.numbered(self.models or {n: 1 for n in self.tensors})
        return oracle.consolidated(self.tensors, files, index)


def small_tensors(rng):
    shapes = {
        "model.embed.weight": ("BF16", (10, 6)),
        "model.layers.0.q.weight": ("F32", (7, 5)),
        "model.layers.1.q.weight": ("F32", (8, 4)),
        "model.layers.10.q.weight": ("F16", (3, 4, 2)),
        "model.layers.2.q.weight": ("I64", (9,)),
        "model.norm": ("F64", ()),
        "model.mask": ("BOOL", (5, 3)),
        "model.empty": ("U8", (0, 4)),
    }
    return {name: oracle.random_tensor(rng, dtype, shape) for name, (dtype, shape) in shapes.items()}


def rows(tensors, ranks):
    """Every tensor cut along dimension 0; scalars with rank 0 alone."""
    out = {}
    for name, t in tensors.items():
        out[name] = oracle.boxes_of(t.shape, (ranks,), (0,)) if t.shape else [oracle.whole(())]
    return out


@pytest.fixture
def make(rng):
    """make(path, models=None, ranks=3, ...): a small checkpoint sharded by rows."""

    def build(path, models=None, ranks=3, tensors=None, boxes=None, replicas=False):
        tensors = tensors if tensors is not None else small_tensors(rng)
        return Checkpoint(str(path), tensors, boxes or rows(tensors, ranks), models, replicas)

    return build


@pytest.fixture
def sharded(dirs, make):
    """(checkpoint, input, output): the small one, sharded over three ranks; the output is not there."""
    return make(dirs[0]), *dirs


@pytest.fixture
def weld():
    """weld(input, output, *options, np=None, env=None): consolidate, and hand back the result."""

    def call(src, dst, *options, **more):
        return runner.run(["consolidate", *options, src, dst], **more)

    return call
