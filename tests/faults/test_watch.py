"""Ranks that stand still: who is waited for is told, and with --timeout the run ends."""

import json
import os
import platform
import signal
import time

import pytest
from conftest import next_run
from runner import errors, finish, ok, run, show, start, warnings
from test_kill import at, family, is_program, start_slowly, wait_stopped

HOST = platform.node()
# Half of it must pass before the first word.
TIMEOUT = 4


def watched(scene, out, *more, np, env, seconds=TIMEOUT):
    begun = time.monotonic()
    result = run([*scene.args(out), "--timeout", seconds, *more], np=np, env=env, timeout=60)
    assert time.monotonic() - begun < 30
    return result


def given_up(result, who):
    """A warning, then the same as the only error, with the status of a system that fails."""
    assert result.status == 4 and len(errors(result)) == 1, show(result)
    told = warnings(result)
    assert told and all("no round has finished for " in line and f"waiting for {who}" in line for line in told), show(result)
    assert f"waiting for {who}" in errors(result)[0], show(result)


# Files that a rank reads, writes and opens by itself; what another group, the whole group or all ranks then wait for.
SILENT = "no word of it any more; the last was: "
CASES = [
    ("pread", 1, 3, "hang", "(reading shard-"),
    ("open_shard", 0, 1, "hang", "(opening shard-"),
    ("write", 0, 1, "hang", "(writing "),
    ("rename", 0, 2, "hang", "(renaming "),
    ("mpi_write", 2, 1, "stop", f"({SILENT}"),
    ("mpi_close", 1, 1, "stop", f"({SILENT}"),
    ("open_out", 1, 1, "stop", f"({SILENT}"),
]


@pytest.mark.parametrize("site, rank, nth, action, step", CASES)
def test_who_is_waited_for(scene, out, tmp_path, site, rank, nth, action, step):
    result = watched(scene, out, "--report", tmp_path / "r", np=3, env=at(site, rank, nth, action))
    given_up(result, f"rank {rank} on {HOST} {step}")
    says = json.loads((tmp_path / "r").read_text())
    assert says["status"] == 4 and says["rank"] == 0 and says["host"] == HOST and says["message"] in errors(result)[0]
    assert f"{out}/.shardweld-staging stays" in errors(result)[0]
    now = scene.look(out)
    assert now.old and now.staged and not now.mixture, str(now)
    assert next_run(scene, out, np=2) == ""


def test_a_group_of_its_own(scenes, tmp_path):
    """Rank 0 is in another group, writes its file, and waits for the end of the others'."""
    out = scenes[2].put_old(tmp_path / "out")
    result = watched(scenes[2], out, np=4, env=at("pread", 3, 2, "hang"))
    given_up(result, f"rank 3 on {HOST} (reading shard-")


def test_rank_0_itself(scene, out):
    """It says nothing any more, so another one does; the launcher ends what is stopped."""
    process = start([*scene.args(out), "--timeout", TIMEOUT], np=3, env=at("pread", 0, 1, "stop"))
    pid = wait_stopped(process)
    ranks = [p for p in family(process.pid) if is_program(p)]
    result = finish(process, 40)
    assert result.status == 4 and errors(result), show(result)
    assert f"waiting for rank 0 on {HOST} (no word of it any more)" in errors(result)[0], show(result)
    assert pid in ranks and not any(is_program(p) for p in ranks)


def test_alone(scene, out):
    result = watched(scene, out, np=None, env=at("pread", 0, 3, "hang"))
    assert result.status == 4 and len(warnings(result)) == len(errors(result)) == 1, show(result)
    assert "for 2 s: reading shard-" in warnings(result)[0] and "for 4 s: reading shard-" in errors(result)[0]


@pytest.mark.parametrize("args", [["inspect", "{in}"], ["verify", "{in}", "{out}"], ["reshard", "--ranks", "2", "{in}", "{out}-r"]], ids=lambda a: a[0])
def test_every_command(scene, out, args):
    names = {"in": scene.inputs["old"], "out": out}
    result = run([a.format(**names) for a in args] + ["--timeout", TIMEOUT], np=2, env=at("read", 1, 1, "hang"), timeout=40)
    given_up(result, f"rank 1 on {HOST} (reading ")
    assert ("stays" in errors(result)[0]) == (args[0] == "reshard"), show(result)


def test_what_goes_on_again_is_no_error(scene, out):
    """One word, and a success; -q takes the word back."""
    for quiet in ([], ["-q"]):
        scene.put_old(out)
        process = start([*scene.args(out), "--timeout", 8, *quiet], np=3, env=at("pread", 1, 2, "stop"))
        pid = wait_stopped(process)
        time.sleep(6)
        os.kill(pid, signal.SIGCONT)
        result = finish(process, 40)
        assert result.status == 0 and len(warnings(result)) == (not quiet), show(result)
        assert scene.look(out).new


def test_a_suspended_job_has_not_stood_still(scene, out):
    """All its processes are stopped for longer than the timeout, and go on one after the other."""
    process = start_slowly(scene, out, "--timeout", "2")
    ranks = [p for p in family(process.pid) if is_program(p)]
    assert len(ranks) == 3
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in ranks:
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.1)
    ok(finish(process, 40))
    assert scene.look(out).new
