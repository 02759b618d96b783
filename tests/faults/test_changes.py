"""Files that change under verify: of OUTPUT_DIR that is a finding, beside all others, and of INPUT_DIR no valid input."""

import os
import shutil
import signal

import pytest
from conftest import calls, calls_of
from runner import errors, fails, finish, ok, run, show, start
from test_kill import at, wait_stopped

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def shrink(path):
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path):
    with open(path, "ab") as f:
        f.write(b"\0")


def flip(path):
    """Ends as another time would."""
    with open(path, "r+b") as f:
        f.seek(-3, os.SEEK_END)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 4]))


def touch(path):
    os.utime(path, ns=(1, 1))


def replace(path):
    shutil.copy(path, f"{path}.new")
    os.replace(f"{path}.new", path)


def make_dir(path):
    path.unlink()
    path.mkdir()


CHANGES = [shrink, lengthen, flip, touch, replace, os.unlink, make_dir]


def changed_while(args, env, change, path, np=None):
    """The run stops where env says, the file changes, the run goes on."""
    process = start(args, np=np, env=env)
    pid = wait_stopped(process)
    change(path)
    os.kill(pid, signal.SIGCONT)
    return finish(process, 40)


@pytest.fixture
def welded(scenes, tmp_path):
    """(input, output): in two files, the second with an element that is wrong."""
    out = tmp_path / "out"
    assert run(["consolidate", scenes[2].inputs["old"], out]).status == 0
    flip(out / SECOND)
    src = tmp_path / "in"
    shutil.copytree(scenes[2].inputs["old"], src)
    return src, out


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("assign", ["band", "owner"])
@pytest.mark.parametrize("change", CHANGES)
def test_output_that_changes(welded, change, np, assign):
    """Before a rank opens its first file of all. (They are so small that the first of three has nothing to compare.)"""
    src, out = welded
    args = ["verify", "--buffer-size", "8KiB", "--assign", assign, src, out]
    result = changed_while(args, at("open_shard", 1 if np else 0, 1, "stop"), change, out / FIRST, np)
    assert result.status == 1 and len(errors(result)) == 1, show(result)
    lines = result.stdout.splitlines()
    assert any(FIRST in line and "while it was compared" in line for line in lines), show(result)
    assert any(SECOND in line and "1 of" in line for line in lines), show(result)


@pytest.mark.parametrize("change", [shrink, replace, os.unlink])
@pytest.mark.parametrize("site", ["read", "pread", "open_shard"])
def test_output_that_changes_at_any_time(welded, scenes, tmp_path, change, site):
    src, out = welded
    args = ["verify", "--buffer-size", "64KiB", src, out]
    pristine = (out / FIRST).read_bytes()
    n = calls_of(tmp_path, lambda listed: run(args, env=listed))[0, site]
    assert n > 3
    for nth in range(1, n + 1):
        result = changed_while(args, at(site, 0, nth, "stop"), change, out / FIRST)
        # A copy is as good as the file when nobody had looked yet.
        told = FIRST in result.stdout or (change is replace and site == "read")
        assert result.status == 1 and told and SECOND in result.stdout, f"{site} {nth}; {show(result)}"
        (out / FIRST).write_bytes(pristine)


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("site", ["read", "open_shard"])
@pytest.mark.parametrize("change", [shrink, os.unlink])
@pytest.mark.parametrize("command", ["verify", "consolidate"])
def test_input_that_changes(welded, tmp_path, site, change, command, np):
    src, out = welded
    victim = sorted(src.iterdir())[-1]
    out = out if command == "verify" else tmp_path / "other"
    rank = 1 if np and site == "open_shard" else 0
    nth = 3 if np and site == "read" and command == "consolidate" else 1  # the first two are of the lock file
    result = changed_while([command, src, out], at(site, rank, nth, "stop"), change, victim, np)
    if np and site == "open_shard" and result.status in (0, 1):
        return  # the rank that has the file open was faster
    fails(result, 3, victim.name)


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("change", [shrink, lengthen, flip, os.unlink])
@pytest.mark.parametrize("when", ["first", "last"])
def test_staged_files_that_change(scenes, tmp_path, change, np, when):
    """consolidate --verify: nothing is published."""
    scene = scenes[2]
    out = scene.put_old(tmp_path / "out")
    rank = 1 if np else 0
    written = calls(scene, scene.put_old(tmp_path / "plain"), tmp_path, np)[rank, "open_shard"]
    args = [*scene.args(out), "--verify"]
    both = calls_of(tmp_path, lambda listed: ok(run(args, np=np, env=listed)))[rank, "open_shard"]
    assert both > written
    scene.put_old(out)
    nth = written + 1 if when == "first" else both
    staged = out / ".shardweld-staging" / "new" / FIRST
    result = changed_while(args, at("open_shard", rank, nth, "stop"), change, staged, np)
    fails(result, 1, FIRST)
    now = scene.look(out)
    assert now.old and not now.staged and now.bystander, str(now)
