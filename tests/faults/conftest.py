"""What all fault drills share: an old and a new checkpoint, and what must be true after anything went wrong.

The program must be a build with SW_FAULTS (make check-faults makes one in build-faults): SHARDWELD names it.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "e2e"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import oracle  # noqa: E402
import runner  # noqa: E402

SEED = int(os.environ.get("SEED") or int.from_bytes(os.urandom(4), "big"))
CI = os.environ.get("CI") == "true"


def pytest_report_header(config):
    return f"program: {runner.SHARDWELD}; SEED={SEED} repeats the random drills"


def pytest_configure(config):
    if not os.access(runner.SHARDWELD, os.X_OK):
        raise pytest.UsageError(f"{runner.SHARDWELD} is not there: build it with FAULTS=1, or set SHARDWELD")
    # MPI's own directories: killed runs leave them, and jobs that share one stumble over each other's removal of it.
    runner.LAUNCH["TMPDIR"] = config.mpi_dir = tempfile.mkdtemp(prefix="sw")
    os.chmod(config.mpi_dir, 0o1777)


def pytest_unconfigure(config):
    shutil.rmtree(getattr(config, "mpi_dir", ""), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def faults_are_built_in(tmp_path_factory):
    """Drills against a program that ignores them would all pass."""
    listing = tmp_path_factory.mktemp("probe") / "list"
    src = listing.parent / "in"
    oracle.write_plain(str(src), {"a": oracle.random_tensor(np.random.default_rng(1), "U8", (4,))}, {"a": oracle.SINGLE})
    runner.ok(runner.run(["consolidate", src, src.parent / "out"], env={"SHARDWELD_FAULT_LIST": str(listing)}))
    assert listing.exists(), f"{runner.SHARDWELD} is no build with SW_FAULTS"


def may(words, what):
    """Can this machine do it? In CI it must: a drill that is skipped there does not exist."""
    try:
        able = subprocess.run(words, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        (pytest.fail if CI else pytest.skip)(f"not permitted here: {what}")


@pytest.fixture(scope="session")
def rng():
    return random.Random(SEED)


class Scene:
    """Two sharded checkpoints of the same names and other values; the old one is what OUTPUT_DIR holds at first."""

    def __init__(self, base, nmodels, rows=120):
        self.inputs, self.trees = {}, {}
        for seed, which in enumerate(("old", "new")):
            values = np.random.default_rng(seed)
            tensors = {f"layers.{i}.w": oracle.random_tensor(values, "F32", (rows + i, 40)) for i in range(5)}
            models = {name: 1 + i % nmodels for i, name in enumerate(tensors)}
            boxes = {name: oracle.boxes_of(t.shape, (3,), (0,)) for name, t in tensors.items()}
            self.inputs[which] = base / which
            oracle.write_sharded(str(base / which), tensors, boxes, models)
            self.trees[which] = oracle.consolidated(tensors, oracle.numbered(models))
        self.size = sum(len(data) for data in self.trees["new"].values())

    def put_old(self, out):
        """OUTPUT_DIR with the old checkpoint and a bystander."""
        if out.exists():
            shutil.rmtree(out)
        for name, data in self.trees["old"].items():
            oracle.write(str(out / name), data)
        oracle.write(str(out / "README.md"), b"mine")
        return out

    def args(self, out, buffer="16KiB"):
        return ["consolidate", "--overwrite", "--buffer-size", buffer, self.inputs["new"], out]

    def look(self, out):
        return Look(self, out)


class Look:
    """What OUTPUT_DIR holds now."""

    def __init__(self, scene, out):
        files = oracle.tree(out)
        self.staging = {n for n in files if n.startswith(".shardweld-staging/")}
        self.staged = os.path.lexists(out / ".shardweld-staging")
        self.journal = ".shardweld-staging/journal" in files
        self.files = {n: data for n, data in files.items() if n not in self.staging}
        # A kill or a dead disk in the middle of the trial rename leaves its empty file; the next run removes it.
        self.trial = self.files.pop(".shardweld-trial", None) == b""
        # Some drills have no bystander: only if it is there must it be whole.
        self.bystander = self.files.pop("README.md", b"mine") == b"mine"
        self.old, self.new = (self.files == scene.trees[which] for which in ("old", "new"))
        self.mixture = self._mixture(scene)

    def _mixture(self, scene):
        """Does the index name anything but whole files of its own checkpoint?"""
        index = self.files.get(oracle.INDEX)
        if index is None:
            return False
        return not any(
            index == tree[oracle.INDEX] and all(self.files.get(name) == data for name, data in tree.items())
            for tree in scene.trees.values()
        )

    def __str__(self):
        return f"files {sorted(self.files)}, staging {self.staged} {sorted(self.staging)}, old {self.old}, new {self.new}"


# Calls that clean up: when one of them fails something stays behind, and the message says what.
CLEANING = {"opendir", "readdir", "unlink", "rmdir", "open", "stat"}
# Where nothing may be overlooked: a failure is status 4. (A shard that cannot be opened for read-ahead is opened again.)
STRICT = {"create", "fallocate", "fsync", "lock", "mpi_close", "mpi_count", "mpi_open", "mpi_sync",
          "mpi_write", "open_out", "pread", "read", "rename", "write"}  # fmt: skip


def problem(scene, out, result, site):
    """What is wrong after a run with a failure injected at site; "" when nothing is."""
    now = scene.look(out)
    says = runner.errors(result)
    if now.mixture or not now.bystander:
        return f"a mixture, or a file that is none of ours changed: {now}"
    if result.status == 0:
        if site in STRICT:
            return "the failure was overlooked"
        return "" if now.new and not now.staged and not result.stderr else f"success, but {now}; {result.stderr}"
    if result.status != 4 or len(says) != 1:
        return f"expected status 4 and one message; {runner.show(result)}"
    if not (now.old or now.new or now.journal):
        return f"neither old nor new, and no journal: {now}; {says}"
    if now.trial or (now.staged and not now.journal and site not in CLEANING):
        return f"something is left: {now}; {says}"
    return ""


def next_run(scene, out, np=None):
    """Whatever happened: the next run succeeds, and exactly the new checkpoint is there."""
    end = time.monotonic() + 10
    result = runner.run(scene.args(out), np=np, timeout=60)
    while "another run works" in result.stderr and time.monotonic() < end:  # the last thread of a killed process lets go later
        result = runner.run(scene.args(out), np=np, timeout=60)
    now = scene.look(out)
    if result.status != 0 or result.stderr or not now.new or now.staged or now.trial or not now.bystander:
        return f"the next run: {runner.show(result)}\n{now}"
    return ""


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    return {n: Scene(tmp_path_factory.mktemp(f"files{n}"), n) for n in (1, 2)}


@pytest.fixture
def scene(scenes):
    return scenes[1]


@pytest.fixture
def out(scene, tmp_path):
    return scene.put_old(tmp_path / "out")


def components():
    """The MPI-IO transports of this MPI: ROMIO's component has its version in its name."""
    try:
        info = subprocess.run(["ompi_info", "--parsable"], check=False, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return [""]
    names = [line.split(":")[2] for line in info.splitlines() if line.startswith("mca:io:")]
    return sorted({n for n in names if n.startswith(("romio", "ompio"))}) or [""]


TRANSPORTS = components()


def transport(name):
    return {"OMPI_MCA_io": name} if name else {}


def calls_of(tmp_path, run):
    """{(rank, site): number of calls} while run(env) goes on, in order of the first."""
    listing = tmp_path / "calls"
    listing.unlink(missing_ok=True)
    run({"SHARDWELD_FAULT_LIST": str(listing)})
    lines = (line.split() for line in listing.read_text().splitlines())
    return Counter((int(rank), site) for site, rank in lines)


def calls(scene, out, tmp_path, np=None, env=None):
    """Those of a run without failures."""
    return calls_of(tmp_path, lambda listed: runner.ok(runner.run(scene.args(out), np=np, env={**(env or {}), **listed})))
