"""Start the program, alone or under the launcher, and say what came of it.

SHARDWELD is the program (default: build/shardweld of this tree), MPIRUN the launcher with its options (empty: there is none).
Every run has a time limit: a program that hangs fails its test and does not stop the suite.
"""

import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections import namedtuple

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SHARDWELD = os.path.abspath(os.environ.get("SHARDWELD", os.path.join(ROOT, "build", "shardweld")))
MPIRUN = shlex.split(os.environ.get("MPIRUN", "mpirun"))
TIMEOUT = float(os.environ.get("E2E_TIMEOUT", "120"))
# What a launcher may have left in our own environment and would change what the program thinks it is.
FOREIGN = ("RANK", "WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID")
LAUNCH = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    # A container may have no /sys, of which these would tell.
    "HWLOC_HIDE_ERRORS": "2",
    "UCX_LOG_LEVEL": "fatal",
    "OMPI_MCA_odls_base_sigkill_timeout": "0",  # else each failed run takes two seconds more
}

Result = namedtuple("Result", "status stdout stderr")


def environment(env=None):
    out = {k: v for k, v in os.environ.items() if k not in FOREIGN and not k.startswith(("OMPI_COMM", "PMIX_"))}
    out.update(LAUNCH)
    out.update(env or {})
    return {k: v for k, v in out.items() if v is not None}


def crowd(np, env):
    """The leak checker of a sanitizer stumbles where many ranks end at once on few processors; fewer ranks are checked for leaks."""
    options = os.environ.get("ASAN_OPTIONS")
    if not options or not np or np < 16:
        return env
    return {**(env or {}), "ASAN_OPTIONS": options.replace("detect_leaks=1", "detect_leaks=0")}


def ranks(np):
    """The launcher and its words, or none; what a test does with ranks is skipped where there is no MPI (MPIRUN is empty)."""
    if np is not None and not MPIRUN:
        pytest.skip("needs an MPI")
    return [] if np is None else [*MPIRUN, "-np", str(np)]


def command(args, np=None, prefix=(), outer=()):
    """prefix stands before the program on every rank, e.g. a wrapper script; outer before the launcher."""
    return [*outer, *ranks(np), *prefix, SHARDWELD, *(str(a) for a in args)]


def stop(process):
    """The launcher first, so that it can take its ranks along; then the whole session."""
    for sig, wait in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sig)
            process.communicate(timeout=wait)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def start(args, np=None, env=None, prefix=(), outer=(), cwd=None, stdout=subprocess.PIPE, **more):
    return subprocess.Popen(
        command(args, np, prefix, outer),
        env=environment(crowd(np, env)),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **more,
    )


# What the library calls the members that callers set; at a shell they are options.
MEMBER = re.compile(r"sw_(options|sharding)\.|SW_NAME_")


def finish(process, timeout=None):
    try:
        out, err = process.communicate(timeout=timeout or TIMEOUT)
    except subprocess.TimeoutExpired:
        stop(process)
        raise AssertionError(f"no end within {timeout or TIMEOUT} s: {shlex.join(process.args)}") from None
    result = Result(process.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))
    assert SHARDWELD not in process.args or not MEMBER.search(result.stdout + result.stderr), result
    return result


def run(args, np=None, env=None, timeout=None, **more):
    """Run the program; np None = without a launcher."""
    return finish(start(args, np, env, **more), timeout)


def family(pid):
    """pid and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    parents.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(entry))
            except OSError:
                pass
    out = [pid]
    for p in out:
        out += parents.get(p, [])
    return out


def install(directory):
    """The program and its layers for MPI, copied to another directory; the path of the copy."""
    for path in (SHARDWELD, *glob.glob(os.path.join(os.path.dirname(SHARDWELD), "libshardweld-mpi-*.so"))):
        shutil.copy2(path, directory)
    return os.path.join(directory, os.path.basename(SHARDWELD))


def unprivileged(tmp_path):
    """Words that take root's rights away (none are needed for anybody else), and a directory to write to."""
    out = tmp_path / "theirs"
    out.mkdir()
    if os.geteuid() != 0:
        return [], out
    if not shutil.which("setpriv"):
        pytest.skip("root, and no setpriv")
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(path.stat().st_mode | 0o055)
    os.chown(out, 65534, 65534)
    outer = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*outer, "test", "-x", SHARDWELD], check=False).returncode:
        pytest.skip("others may not run the program where it lies")
    return outer, out


def errors(result):
    """The error messages of a run: there must be exactly one when it failed."""
    return [line for line in result.stderr.splitlines() if line.startswith("shardweld: error: ")]


def warnings(result):
    return [line for line in result.stderr.splitlines() if line.startswith("shardweld: warning: ")]


def show(result):
    return f"status {result.status}\n--- stdout\n{result.stdout}\n--- stderr\n{result.stderr}"


def ok(result, quiet=True):
    """Status 0 and, but for warnings that were expected, not a word; but where a run takes over 30 s, it may tell how far it is."""
    assert result.status == 0, show(result)
    if quiet:
        said = [line for line in result.stderr.splitlines() if not re.fullmatch(r"shardweld: \d+ %, .* left", line)]
        assert result.stdout == "" and not said, show(result)
    return result


def warns(result, count, *words):
    """Status 0, so many warnings that have these words, and nothing else."""
    assert result.status == 0 and result.stdout == "", show(result)
    assert len(warnings(result)) == len(result.stderr.splitlines()) == count, show(result)
    for word in words:
        assert word in result.stderr, show(result)


def fails(result, status, *words):
    """That status, one message, nothing on standard output, and all of these words in the message."""
    assert result.status == status, f"expected status {status}; {show(result)}"
    message = errors(result)
    assert len(message) == 1, f"expected one message; {show(result)}"
    assert result.stdout == "", show(result)
    for word in words:
        assert word.lower() in message[0].lower(), f"{word!r} not in: {message[0]}"
    return message[0]
