"""Every file system that this machine can make: the same bytes by ranks on two mounts, and blows to runs and to servers.

make check-fs, as root, outside of CI; FS_RESULT names the file that gets a table of what was seen. A file system that cannot be made is
skipped with its reason and stands in the table so.
"""

import contextlib
import os
import re
import stat
import time
from collections import defaultdict, namedtuple

import numpy as np
import oracle
import pytest
import rooms
import runner
import saving
from conftest import Scene, next_run
from resharding import reshard, words
from runner import errors, fails, finish, ok, show, start, warnings
from test_nodes import PHASES

TIMEOUT = 8
STREAMING = {"streaming": ("pread", 5)}  # where all of PHASES is not called: between the first bytes and the last


# ---- what is told in the end -----------------------------------------------------------------------


class Results:
    """What became of each drill on each file system, as a table."""

    def __init__(self):
        self.versions, self.seen = {}, defaultdict(lambda: defaultdict(list))

    def pytest_runtest_logreport(self, report):
        name = dict(report.user_properties).get("file system")
        if name and (report.when == "call" or report.outcome != "passed"):
            drill = re.search(r"::test_(\w+)", report.nodeid)[1].replace("_", " ")
            self.seen[name][drill].append(report.outcome)

    @staticmethod
    def cell(outcomes):
        done = [o for o in outcomes if o != "skipped"]
        bad = done.count("failed")
        return "-" if not done else f"{bad} of {len(done)} failed" if bad else "passed"

    def table(self):
        drills = list(dict.fromkeys(d for of in self.seen.values() for d in of))
        yield f"| file system | {' | '.join(drills)} | versions |"
        yield "| --- |" + " --- |" * (len(drills) + 1)
        for name, versions in self.versions.items():
            yield f"| {name} | {' | '.join(self.cell(self.seen[name][d]) for d in drills)} | {versions} |"

    def pytest_terminal_summary(self, terminalreporter):
        lines = list(self.table())
        terminalreporter.write_line("\n".join(lines))
        if os.environ.get("FS_RESULT"):
            oracle.write(os.environ["FS_RESULT"], ("\n".join(lines) + "\n").encode())


@pytest.fixture(scope="session", autouse=True)
def results(request):
    if not rooms.alone():
        pytest.fail("this mounts, and starts daemons: it wants a network and mounts of its own, as make check-fs gives it")
    rooms.settle()
    table = Results()
    request.config.pluginmanager.register(table)
    return table


def every(*kinds):
    return pytest.mark.parametrize("made", kinds, ids=lambda kind: kind.name, indirect=True, scope="class")


@pytest.fixture(scope="class")
def made(request, results, tmp_path_factory):
    """The file system, or why there is none."""
    try:
        with request.param(tmp_path_factory.mktemp(request.param.name)) as room:
            results.versions[room.name] = room.versions()
            yield room
    except rooms.NotMade as why:
        assert request.param.name not in results.versions, why
        results.versions[request.param.name] = f"not made here: {why}"
        yield str(why)


@pytest.fixture
def room(made, record_property, request):
    record_property("file system", request.node.callspec.params["made"].name)
    if isinstance(made, str):
        pytest.skip(f"{request.node.callspec.params['made'].name} is not made here: {made}")
    yield made
    made.go_on()
    rooms.send(9, programs())


# ---- ranks on two mounts ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def one_path(tmp_path_factory):
    """A directory where each rank sees a mount of its own."""
    return tmp_path_factory.mktemp("here")


@pytest.fixture
def spread(room, one_path):
    """Words before the program: rank 0 works on the first mount, rank 1 on the second, and so on."""
    script = one_path.parent / "spread"
    script.write_text(
        f"""#!/bin/sh
case $((${{OMPI_COMM_WORLD_RANK:-0}} % 2)) in 0) from={room.mounts[0]} ;; *) from={room.mounts[1]} ;; esac
exec unshare --mount sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$from" {one_path} "$@"
"""
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return (str(script),)


# A directory as the ranks see it, by the paths of those who look, and by the mount of who comes next: another one, if its caches allow.
Place = namedtuple("Place", "here views next")


@pytest.fixture
def place(room, one_path, request):
    """A directory of the file system for this drill."""
    name = re.sub(r"\W+", "-", request.node.name)
    room.place(name)
    return Place(one_path / name, [path / name for path in room.views], room.mounts[len(room.views) - 1] / name)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A few MiB: what a disk lacks must be more than it keeps for itself."""
    return Scene(tmp_path_factory.mktemp("large"), 1, rows=6000)


def inside(place, name):
    return Place(place.here / name, [path / name for path in place.views], place.next / name)


def as_new(scene, place):
    """The old checkpoint lies there, as a run on another machine may have left it."""
    scene.put_old(place.views[0] / "out")
    return inside(place, "out")


class Bytes:
    """A checkpoint by rows, columns and grids in two model files, and what is made of it."""

    def __init__(self, base):
        self.rng = np.random.default_rng(7)
        dtypes = ("F32", "BF16", "I64", "U8", "F8_E4M3")
        self.tensors = {f"layers.{i}.weight": oracle.random_tensor(self.rng, dtypes[i % 5], (61 + i, 480)) for i in range(10)}
        models = {name: 1 + i % 2 for i, name in enumerate(self.tensors)}
        cuts = (((4,), (0,)), ((4,), (1,)), ((2, 2), (0, 1)))
        self.boxes = {n: oracle.boxes_of(t.shape, *cuts[i % 3]) for i, (n, t) in enumerate(self.tensors.items())}
        oracle.write_sharded(str(base / "in"), self.tensors, self.boxes, models)
        self.src, self.want = base / "in", oracle.consolidated(self.tensors, oracle.numbered(models))


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    return Bytes(tmp_path_factory.mktemp("bytes"))


def same(place, want):
    """Whoever looks, by whichever mount."""
    for path in place.views:
        assert oracle.difference(oracle.tree(path), want) == "", path


def programs():
    return rooms.processes(os.path.basename(runner.SHARDWELD))


def nobody_is_left():
    rooms.send(9, programs())
    rooms.until(lambda: not programs(), "end of the ranks")


def begin(scene, out, tmp_path, prefix, phase="writing", action="hang", timeout=60):
    """A run by two ranks that has come as far as that: rank 0 stands still there, or both are slow."""
    site, nth = {**PHASES, **STREAMING}[phase]
    listing = tmp_path / "calls"
    listing.unlink(missing_ok=True)
    fault = f"{site}:0:{nth}:hang" if action == "hang" else f"{site}:-1:1+:slow"
    env = {"SHARDWELD_FAULT": fault, "SHARDWELD_FAULT_LIST": str(listing)}
    process = start([*scene.args(out, buffer="4KiB"), "--timeout", str(timeout)], np=2, env=env, prefix=prefix)
    end = time.monotonic() + 60
    while not (listing.exists() and listing.read_text().splitlines().count(f"{site} 0") >= nth):
        assert time.monotonic() < end and process.poll() is None, show(finish(process, 1))
        time.sleep(0.01)
    return process


@contextlib.contextmanager
def standing(*how):
    """A run that has begun so stands still, and is killed after that."""
    process = begin(*how)
    try:
        yield
    finally:
        nobody_is_left()
        result = finish(process, 30)
    assert result.status != 0, show(result)


def kept(scene, out, phase="writing"):
    """The old checkpoint, or, where it was being published, a journal that completes the new one."""
    now = scene.look(out)
    assert not now.mixture and now.bystander, str(now)
    assert now.old or (phase == "publishing" and (now.journal or now.new)), str(now)


def clean(scene, outs):
    """The next run is, from the other mount; and all see what it made."""
    assert next_run(scene, outs.next) == ""
    assert all(scene.look(path).new for path in outs.views)


def met(scene, process, outs, seconds=60):
    """It fails; the old checkpoint is whole, the next run clean."""
    result = finish(process, seconds)
    assert result.status != 0, show(result)
    nobody_is_left()
    kept(scene, outs.views[0])
    clean(scene, outs)
    return result


def refused(room, scene, outs, prefix, env=None):
    """For want of room; the old checkpoint is whole."""
    message = fails(runner.run(scene.args(outs.here, buffer="256KiB"), np=2, env=env, prefix=prefix), 4)
    assert re.search(room.says_full, message, re.I), message
    kept(scene, outs.views[0])


@every(*rooms.ALL)
class TestFileSystem:
    # ---- bytes ----

    @pytest.mark.parametrize("assign", ["band", "owner"])
    def test_consolidate_and_verify(self, spread, place, ckpt, assign):
        options = ["--assign", assign, "--buffer-size", "64KiB"]
        ok(runner.run(["consolidate", *options, "--verify", ckpt.src, place.here / "out"], np=4, prefix=spread))
        same(inside(place, "out"), ckpt.want)
        name = oracle.model_name(2, 2)
        oracle.write(str(place.views[0] / "out" / name), ckpt.want[name][:-1] + b"\0")
        result = runner.run(["verify", *options, ckpt.src, place.here / "out"], np=4, prefix=spread)
        assert result.status == 1 and name in errors(result)[0], show(result)

    def test_reshard_where_it_lies(self, spread, place, ckpt, tmp_path):
        """Read from there, too."""
        mesh, placements = (2, 2), (1, 0)
        oracle.write_sharded(str(place.views[0] / "in"), ckpt.tensors, ckpt.boxes)
        ok(reshard(place.views[0] / "in", tmp_path / "one", mesh=mesh, placements=placements))
        ok(runner.run(["reshard", *words(mesh, placements), place.here / "in", place.here / "out"], np=4, prefix=spread))
        same(inside(place, "out"), oracle.tree(tmp_path / "one"))

    def test_save_from_memory(self, spread, place, ckpt, tmp_path, monkeypatch):
        spec = saving.describe(str(tmp_path / "held"), ckpt.tensors, ckpt.boxes, ckpt.rng)
        monkeypatch.setattr(runner, "SHARDWELD", saving.PROGRAM)
        saving.saved(runner.run(["shards", spec, place.here / "out"], np=4, prefix=spread))
        oracle.write_sharded(str(tmp_path / "want"), ckpt.tensors, ckpt.boxes, own=True)
        same(inside(place, "out"), oracle.tree(tmp_path / "want"))

    # ---- two runs ----

    def test_lock(self, spread, place, scene, tmp_path):
        """Held on one mount it is seen on the other; of a run that was killed it holds nobody up."""
        outs = as_new(scene, place)
        with standing(scene, outs.here, tmp_path, spread):
            fails(runner.run(scene.args(outs.next)), 2, "another run")
            kept(scene, outs.views[0])
        clean(scene, outs)

    # ---- blows ----

    @pytest.mark.parametrize("phase", PHASES)
    def test_killed(self, spread, place, scene, tmp_path, phase):
        outs = as_new(scene, place)
        with standing(scene, outs.here, tmp_path, spread, phase):
            pass
        kept(scene, outs.views[0], phase)
        clean(scene, outs)

    @pytest.fixture
    def slow(self, room, spread, place, scene, tmp_path):
        """A slow run, for a blow to its server."""
        if not room.servers:
            pytest.skip("no server")
        outs = as_new(scene, place)
        return begin(scene, outs.here, tmp_path, spread, action="slow", timeout=TIMEOUT), outs

    def test_server_stopped(self, room, scene, slow):
        """It is told in time; what waits for it in the system ends when it goes on."""
        room.stop()
        time.sleep(2 * TIMEOUT)
        room.go_on()
        result = met(scene, *slow, 60 - 2 * TIMEOUT)
        told = [*warnings(result), *errors(result)]
        assert told and all("no round has finished for" in line or "waiting for" in line for line in told), show(result)

    def test_server_killed(self, room, scene, slow):
        room.kill()
        time.sleep(2)
        if slow[0].poll() is None:
            time.sleep(2 * TIMEOUT)
        room.restore()
        result = met(scene, *slow)
        assert errors(result), show(result)

    # ---- room ----

    @pytest.mark.parametrize("told", ["before", "while writing"])
    def test_full(self, room, spread, place, large, told):
        outs = as_new(large, place)
        try:
            room.fill(large.size // 2)
            refused(room, large, outs, spread, {"SHARDWELD_NO_RESERVE": "1"} if told == "while writing" else {})
        finally:
            room.empty()
        clean(large, outs)

    def test_quota(self, room, spread, place, large):
        if not room.can_limit:
            pytest.skip("no quotas")
        outs = as_new(large, place)
        os.sync()
        room.limit(place.views[0], large.size * 3 // 2)
        try:
            refused(room, large, outs, spread)
        finally:
            room.limit(place.views[0], None)
        clean(large, outs)


@every(rooms.Sshfs)
class TestTwoMachines:
    def test_sign_of_life(self, room, place, scene, tmp_path):
        """A mount that believes for minutes what it has seen once, a lock that looks dead, learns that the other machine's run lives."""
        elsewhere = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
        first, second = (mount / place.views[0].name / "out" for mount in room.mounts)
        lock = os.path.join(".shardweld-staging", "lock")
        scene.put_old(place.views[0] / "out")
        with standing(scene, first, tmp_path, elsewhere):
            touched = place.views[0] / "out" / lock
            dead = time.time() - 200
            os.utime(touched, (dead, dead))
            assert (second / lock).stat().st_mtime < dead + 1
            rooms.until(lambda: touched.stat().st_mtime > dead + 100, "sign of life")
            fails(runner.run(scene.args(second)), 2, "another run", "host elsewhere")
            kept(scene, place.views[0] / "out")
        ok(runner.run(scene.args(first), prefix=elsewhere))
        assert scene.look(place.views[0] / "out").new


@every(rooms.S3fs)
class TestObjects:
    """Whoever tries it finds that it can do all; but it copies each file that is renamed. So it is streamed, for its name."""

    @pytest.fixture(scope="class")
    def scene(self, scenes):
        return scenes[2]

    def test_streamed(self, room, place, scene):
        out = place.views[0] / "out"
        for np in (None, 2):
            result = runner.run([*scene.args(out), "--verify", "-v"], np=np)
            store = "store: fuse.s3fs, objects, by stream (writes in the middle yes, renames yes,"
            assert result.status == 0 and store in result.stderr, show(result)
            assert all(scene.look(path / "out").new for path in place.views)
        ok(runner.run(["verify", scene.inputs["new"], out], np=2))
        weights = [of for of in room.requests("PUT") if of.startswith(f"{place.views[0].name}/") and ".safetensors" in of]
        assert weights and not any(".shardweld-staging" in of for of in weights), weights

    def test_killed(self, room, place, scene, tmp_path):
        """No index, no checkpoint; the next run is clean."""
        out = place.views[0] / "out"
        with standing(scene, out, tmp_path, (), "streaming"):
            pass
        assert not (out / oracle.INDEX).exists()
        ok(runner.run(scene.args(out)))
        assert scene.look(out).new
