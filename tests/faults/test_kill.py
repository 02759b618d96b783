"""Runs that are killed, stopped and told to end, and two runs that meet."""

import hashlib
import json
import os
import re
import shutil
import signal
import time

import pytest
import oracle
from conftest import calls, calls_of, next_run
from runner import SHARDWELD, fails, family, finish, ok, run, show, start, stop


def is_program(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe") == os.path.realpath(SHARDWELD)
    except OSError:
        return False


def is_stopped(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T" and is_program(pid)
    except OSError:
        return False


def wait_stopped(process):
    """The pid of the rank that has stopped itself."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for pid in family(process.pid):
            if is_stopped(pid):
                return pid
        assert process.poll() is None, show(finish(process))
        time.sleep(0.01)
    stop(process)
    raise AssertionError("no rank has stopped")


def at(site, rank, nth, action):
    return {"SHARDWELD_FAULT": f"{site}:{rank}:{nth}:{action}"}


def check_kept(scene, out):
    now = scene.look(out)
    assert not now.mixture and now.bystander, str(now)
    assert now.old or now.new or now.journal, str(now)
    return now


# ---- kills ----------------------------------------------------------------------------------------


def test_killed_at_each_step_of_publishing(scenes, tmp_path, rng):
    """Each rename, and some of what lies between; the unit tests try every call."""
    scene, out = scenes[2], tmp_path / "out"
    counts = calls(scene, scene.put_old(out), tmp_path)
    journals = 0
    for site in ("rename", "unlink", "fsync", "write", "mkdir", "rmdir"):
        steps = range(1, counts[0, site] + 1)
        for nth in steps if site == "rename" or len(steps) < 4 else sorted(rng.sample(steps, 4)):
            scene.put_old(out)
            assert run(scene.args(out), env=at(site, 0, nth, "kill")).status == -signal.SIGKILL
            journals += check_kept(scene, out).journal
            assert next_run(scene, out) == ""
    assert journals > 5


def test_a_completed_publication_is_the_next_runs_success(scene, out):
    """Without --overwrite too, and in no time: what it asks for is there."""
    run(scene.args(out), env=at("rename", 0, 4, "kill"))
    assert scene.look(out).journal
    ok(run(["consolidate", scene.inputs["new"], out], np=2))
    now = scene.look(out)
    assert now.new and not now.staged


def test_a_completed_publication_of_something_else_is_an_old_checkpoint(scene, out):
    run(scene.args(out), env=at("rename", 0, 4, "kill"))
    fails(run(["consolidate", "--single-file", scene.inputs["new"], out], np=2), 2, "--overwrite")
    now = scene.look(out)
    assert now.new and not now.staged


@pytest.mark.parametrize("site, rank, nth", [("mpi_write", 0, 2), ("mpi_write", 1, 2), ("mpi_write", 2, 1), ("pread", 1, 3), ("mpi_close", 2, 1)])
def test_one_rank_killed_while_writing(scene, out, site, rank, nth):
    result = run(scene.args(out), np=3, env=at(site, rank, nth, "kill"), timeout=40)
    assert result.status == 128 + signal.SIGKILL, show(result)
    now = check_kept(scene, out)
    assert now.old and not now.journal
    assert next_run(scene, out, np=2) == ""


def test_verbose_tells_the_plan_before_the_work(scene, out):
    result = run([*scene.args(out), "-v"], np=2, env=at("create", 0, 1, "kill"), timeout=40)
    assert "\nranks: 2, by " in "\n" + result.stderr and "time: plan" not in result.stderr, show(result)


@pytest.mark.parametrize("np", [None, 2])
def test_a_killed_run_leaves_no_older_report(scene, out, tmp_path, np):
    (tmp_path / "r").write_text("older")
    run([*scene.args(out), "--report", tmp_path / "r"], np=np, env=at("pread", 0, 1, "kill"), timeout=40)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("nth", [3, 4, 5, 6])
def test_killed_while_publishing_under_the_launcher(scene, out, nth):
    result = run(scene.args(out), np=3, env=at("rename", 0, nth, "kill"), timeout=40)
    assert result.status == 128 + signal.SIGKILL, show(result)
    assert check_kept(scene, out).journal
    assert next_run(scene, out, np=2) == ""


@pytest.mark.parametrize("how", ["another file", "the same file"])
@pytest.mark.parametrize("which", [oracle.shard_name(2), "config.json"])
def test_a_recovery_is_not_the_success_of_other_inputs(scene, tmp_path, which, how):
    """Of the same size and time: what a killed run published is an old checkpoint to a run that finds other bytes."""
    src, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(scene.inputs["new"], src)
    oracle.write(str(src / "config.json"), b'{"a": 1}')
    args = ["consolidate", "-q", src, out]
    assert run(args, env=at("rename", 0, 4, "kill")).status == -signal.SIGKILL
    before = (src / which).stat()
    data = (src / which).read_bytes()
    target = src / which if how == "the same file" else tmp_path / "other"
    target.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    os.replace(target, src / which)
    os.utime(src / which, ns=(before.st_atime_ns, before.st_mtime_ns))
    fails(run(args), 2, "--overwrite")
    ok(run([*args, "--overwrite"]))
    ok(run(["verify", src, out]))


@pytest.mark.parametrize("options", [["--cast-dtype", "bf16"], ["--verify"], ["--dequantize", "bf16"]])
def test_a_recovery_is_not_the_success_of_other_options(scene, tmp_path, options):
    """What a killed run published is completed, and then it is an old checkpoint to a run that wants another one."""
    assets, out = tmp_path / "as", tmp_path / "out"
    oracle.write(str(assets / "config.json"), b'{"dtype": "float32", "quantization_config": {}}')
    args = ["consolidate", "-q", "--assets", assets, scene.inputs["new"], out]
    assert run(args, env=at("rename", 0, 4, "kill")).status == -signal.SIGKILL
    fails(run(args + options), 2, "--overwrite")
    ok(run(args + options + ["--overwrite"]))
    text = (out / "config.json").read_text()
    assert ("bfloat16" in text) == ("bf16" in options), text
    assert ("quantization" in text) == ("--dequantize" not in options), text


def test_killed_again_and_again(scenes, tmp_path):
    """The recovery is killed too, at every rename that it makes."""
    scene, out = scenes[2], scenes[2].put_old(tmp_path / "out")
    run(scene.args(out), env=at("rename", 0, 3, "kill"))
    for _ in range(8):
        assert check_kept(scene, out).journal or scene.look(out).new
        run(scene.args(out), env=at("rename", 0, 2, "kill"))
    assert next_run(scene, out) == ""


# ---- manifests ------------------------------------------------------------------------------------

MANIFEST = "shardweld.manifest.json"


def check_said(out, where):
    """No manifest stands beside bytes, an index or a lone file that are not its own; where the index or the lone file is, all is there that it names."""
    if not (out / MANIFEST).exists():
        return
    said = json.loads((out / MANIFEST).read_text())["files"]
    there = {name for name in said if (out / name).exists()}
    for name in there:
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == said[name]["sha256"], f"{where}: {name}"
    for lead in (oracle.INDEX, oracle.SINGLE):
        assert lead in said or not (out / lead).exists(), f"{where}: it stands beside another's {lead}"
    key = oracle.INDEX if oracle.INDEX in said else oracle.SINGLE
    assert key not in there or there == set(said), f"{where}: {sorted(set(said) - there)} are missing"


SPLIT, SINGLE = ["--max-shard-size", "20KB"], ["--single-file"]


@pytest.mark.parametrize("before, after, old_way, new_way", [(None, True, [], []), (True, True, [], []), (True, False, [], []), (False, True, [], []),
                                                             (True, False, SPLIT, []), (False, True, SPLIT, []), (False, True, SINGLE, SINGLE),
                                                             (False, True, SINGLE, []), (False, True, [], SINGLE)])  # fmt: skip
def test_killed_with_a_manifest(scenes, tmp_path, rng, before, after, old_way, new_way):
    """While it writes, syncs and publishes, into nothing or over a checkpoint with a manifest or without one, of the same names or of others."""
    scene, kept, out = scenes[2], tmp_path / "kept", tmp_path / "out"
    kept.mkdir()
    if before is not None:
        ok(run(["consolidate", *["--manifest"] * before, *old_way, scene.inputs["old"], kept]))
    args = [*scene.args(out), *["--manifest"] * after, *new_way]

    def put():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(kept, out)

    put()
    counts = calls_of(tmp_path, lambda listed: ok(run(args, env=listed)))
    assert {"rename", "fsync", "write"} <= {site for _, site in counts}, counts
    for site in ("write", "fsync", "rename", "unlink"):
        steps = range(1, counts[0, site] + 1)
        for nth in steps if site == "rename" or len(steps) < 4 else sorted(rng.sample(steps, 3)):
            put()
            assert run(args, env=at(site, 0, nth, "kill")).status == -signal.SIGKILL
            check_said(out, f"{site} {nth}")
            ok(run(args))
            check_said(out, f"after {site} {nth}")
            names = set(os.listdir(out))
            assert ".shardweld-staging" not in names and (MANIFEST in names) == after, f"{site} {nth}: {names}"
            result = run(["check", out] if after else ["verify", scene.inputs["new"], out])
            assert result.status == 0 and result.stdout == "", f"{site} {nth}: {show(result)}"


# ---- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("site", ["create", "pread", "fsync"])
def test_a_signal_ends_a_run_alone(scene, out, sig, site):
    process = start(scene.args(out), env=at(site, 0, 1, "stop"))
    pid = wait_stopped(process)
    os.kill(pid, sig)
    os.kill(pid, signal.SIGCONT)
    result = finish(process, 30)
    now = scene.look(out)
    assert not now.staged, str(now)
    assert result.status == -sig and now.old, f"{show(result)}\n{now}"
    assert next_run(scene, out) == ""


def test_a_signal_while_publishing_leaves_old_or_new(scene, out):
    for nth in (2, 4, 6):
        scene.put_old(out)
        process = start(scene.args(out), env=at("rename", 0, nth, "stop"))
        pid = wait_stopped(process)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        finish(process, 30)
        now = check_kept(scene, out)
        assert (now.old or now.new) and not now.staged, str(now)
        assert next_run(scene, out) == ""


def start_slowly(scene, out, *more):
    """Three ranks that write for a second or more; their first file is there."""
    process = start([*scene.args(out, buffer="4KiB"), *more], np=3, env=at("mpi_write", -1, "1+", "slow"))
    staged = out / ".shardweld-staging" / "new" / oracle.model_name(1, 1)
    end = time.monotonic() + 30
    while time.monotonic() < end and not staged.exists():
        time.sleep(0.002)
    assert staged.exists()
    return process


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher(scene, out, sig):
    """The launcher passes it on, grants a moment, and kills."""
    process = start_slowly(scene, out)
    os.kill(process.pid, sig)
    result = finish(process, 40)
    now = scene.look(out)
    assert result.status != 0 and now.old, f"{show(result)}\n{now}"
    assert next_run(scene, out, np=2) == ""


def test_a_launcher_that_is_killed_leaves_no_ranks(scene, out):
    process = start_slowly(scene, out)
    ranks = [p for p in family(process.pid) if p != process.pid]
    assert len(ranks) >= 3
    process.kill()
    finish(process, 30)
    end = time.monotonic() + 30
    while time.monotonic() < end and any(is_program(p) for p in ranks):
        time.sleep(0.05)
    assert not any(is_program(p) for p in ranks)
    check_kept(scene, out)
    assert next_run(scene, out, np=2) == ""


# ---- two runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("site, nth", [("create", 1), ("rename", 4)])
def test_two_runs_on_one_directory(scene, out, np, site, nth):
    """The second is refused while the first writes, and while it publishes, and the first does not notice."""
    first = start(scene.args(out), np=np, env={**at(site, 0, nth, "stop"), "SLURM_JOB_ID": "4711"})
    pid = wait_stopped(first)
    for other in (None, 2):
        message = fails(run(scene.args(out), np=other), 2, "another run works on this directory", "job 4711")
        assert re.search(rf"host \S+, pid {pid}\b", message), message
    os.kill(pid, signal.SIGCONT)
    ok(finish(first, 40))
    now = scene.look(out)
    assert now.new and not now.staged


def test_two_runs_where_locks_do_not_work(scene, out):
    no_locks = {"SHARDWELD_FAULT": "lock:0:1+:37"}  # ENOLCK
    first = start(scene.args(out), np=2, env={"SHARDWELD_FAULT": "mpi_write:0:1:stop"})
    pid = wait_stopped(first)
    fails(run(scene.args(out), env=no_locks), 2, "another run", f"pid {pid},", "locks do not work")
    os.kill(pid, signal.SIGCONT)
    ok(finish(first, 40))
    scene.put_old(out)
    ok(run(scene.args(out), np=2, env=no_locks))
    assert scene.look(out).new


def test_a_dead_runs_staging_where_locks_do_not_work(scene, out):
    """It counts as alive for ten minutes."""
    no_locks = {"SHARDWELD_FAULT": "lock:0:1+:37"}
    run(scene.args(out), env=at("fsync", 0, 1, "kill"))
    lock = out / ".shardweld-staging" / "lock"
    fails(run(scene.args(out), env=no_locks), 2, "another run")
    then = time.time() - 601
    os.utime(lock, (then, then))
    ok(run(scene.args(out), env=no_locks))
    now = scene.look(out)
    assert now.new and not now.staged


def test_a_crowd(scene, out, tmp_path):
    """All of them start at once: those that get the directory one after the other succeed, the others are refused."""
    dirs = [tmp_path / f"mpi{i}" for i in range(6)]
    for d in dirs:
        d.mkdir()
    crowd = [start(scene.args(out), env={"TMPDIR": str(d)}) for d in dirs]
    results = [finish(p, 60) for p in crowd]
    assert {r.status for r in results} <= {0, 2} and any(r.status == 0 for r in results), [show(r) for r in results]
    now = scene.look(out)
    assert now.new and not now.staged


def test_output_dir_that_a_failed_run_made_goes_again(scene, tmp_path):
    deep = tmp_path / "a" / "b" / "out"
    fails(run(scene.args(deep), np=2, env={"SHARDWELD_FAULT": "mpi_write:1:1"}), 4)
    assert not (tmp_path / "a").exists()
