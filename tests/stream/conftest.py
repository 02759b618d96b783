"""A store that only takes a stream, mounted: tests/stream/stream_store.c. As root, or whoever may mount by FUSE.

STREAM_STORE names that program; SHARDWELD a build with SW_FAULTS (make check-stream makes both).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "e2e"))

import oracle  # noqa: E402
import runner  # noqa: E402

STORE = os.environ.get("STREAM_STORE", "")


def pytest_configure(config):
    if not (os.access(runner.SHARDWELD, os.X_OK) and os.access(STORE, os.X_OK)):
        raise pytest.UsageError(f"{runner.SHARDWELD} or {STORE} is not there: make check-stream builds both")
    runner.LAUNCH["TMPDIR"] = config.mpi_dir = tempfile.mkdtemp(prefix="sw")


def pytest_unconfigure(config):
    shutil.rmtree(getattr(config, "mpi_dir", ""), ignore_errors=True)


class Store:
    """Mounted at `path`; what it holds lies in `backing`."""

    def __init__(self, base):
        self.backing, self.path, self.process = base / "backing", base / "mnt", None
        self.backing.mkdir()
        self.path.mkdir()

    def mount(self, *words):
        self.unmount()
        self.process = subprocess.Popen([STORE, self.backing, self.path, *words], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not os.path.ismount(self.path):
            assert self.process.poll() is None and time.monotonic() < end, "cannot mount by FUSE: /dev/fuse, and the right to, are needed"
            time.sleep(0.01)
        return self.path

    def unmount(self):
        """Also after the store has died."""
        if self.process is None:
            return
        subprocess.run(["umount", "-l", self.path], check=True)
        self.process.kill()
        self.process.wait()
        self.process = None

    def die(self):
        """What was not closed is lost."""
        self.process.kill()
        self.process.wait()
        self.unmount()
        shutil.rmtree(f"{self.backing}.under-way")


@pytest.fixture
def store(tmp_path):
    s = Store(tmp_path)
    yield s
    s.unmount()


class Scene:
    """Two sharded checkpoints with the names and other values, each in three model files, with a side file."""

    def __init__(self, base, nmodels=3):
        self.inputs, self.trees = {}, {}
        for seed, which in enumerate(("old", "new")):
            values = np.random.default_rng(seed)
            tensors = {f"layers.{i}.w": oracle.random_tensor(values, "F32", (120 + i, 40)) for i in range(6)}
            models = {name: 1 + i % nmodels for i, name in enumerate(tensors)}
            boxes = {name: oracle.boxes_of(t.shape, (3,), (0,)) for name, t in tensors.items()}
            self.inputs[which] = base / which
            oracle.write_sharded(str(base / which), tensors, boxes, models)
            side = b'{"dtype": "float32", "seed": %d}' % seed
            oracle.write(str(base / which / "config.json"), side)
            self.trees[which] = {**oracle.consolidated(tensors, oracle.numbered(models)), "config.json": side}
            self.lone = {**oracle.consolidated(tensors, {name: oracle.SINGLE for name in tensors}, None), "config.json": side}
        self.size = sum(map(len, self.trees["new"].values()))

    def args(self, out, *more, which="new", buffer="16KiB"):
        return ["consolidate", "--buffer-size", buffer, *more, self.inputs[which], out]

    def weld(self, out, *more, np=None, which="new", **how):
        return runner.run(self.args(out, *more, which=which), np=np, **how)

    @staticmethod
    def visible(out):
        return {name: data for name, data in oracle.tree(out).items() if not name.startswith(".shardweld-staging/")}

    def holds_visibly(self, out, which):
        return oracle.difference(self.visible(out), self.trees[which]) == ""

    def holds(self, out, which="new"):
        return oracle.difference(oracle.tree(out), self.trees[which]) == ""


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"))
