"""Run tests/python/job.py: alone, or on N ranks by some launcher; hand back what each rank says."""

import json
import os
import subprocess
import sys

import runner

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PYTHON = os.path.join(ROOT, "python")
JOB = os.path.join(HERE, "job.py")
BUILD = os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build"))
TIMEOUT = 60


def environment(**more):
    """The library that was built, this tree's package, and no more threads than there are processes."""
    return runner.environment(
        {"SHARDWELD_LIBRARY": BUILD, "PYTHONPATH": PYTHON, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}
    )


def mpirun(np):
    return runner.ranks(np)


def torchrun(np):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={np}", "--no-python"]


def run(command, timeout=TIMEOUT, **env):
    """A finished process; one that hangs is killed with all its ranks, and fails its test."""
    process = subprocess.Popen(
        command,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        runner.stop(process)
        raise AssertionError(f"hangs: {command}") from None
    return runner.Result(process.returncode, out.decode(), err.decode(errors="replace"))


def job(tmp_path, cases, launcher=(), np=1, comm=None, **spec):
    """(result of the launcher, [what rank r says of each case]); None for a rank that said nothing."""
    results = tmp_path / "results"
    results.mkdir(exist_ok=True)
    for old in results.iterdir():
        old.unlink()
    (tmp_path / "spec.json").write_text(json.dumps({"comm": comm, "cases": cases, **spec}, default=str))
    done = run([*launcher, sys.executable, JOB, str(tmp_path / "spec.json"), str(results)])
    said = []
    for r in range(np):
        path = results / f"{r}.json"
        said.append(json.loads(path.read_text()) if path.exists() else None)
    return done, said
