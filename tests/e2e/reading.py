"""The reader as a filter: $SHARDWELD_BUILD/tests/reader_check."""

import json
import os
import subprocess
from math import prod

import oracle
import runner

BUILD = os.environ.get("SHARDWELD_BUILD", os.path.join(runner.ROOT, "build"))
PROGRAM = os.path.join(os.path.abspath(BUILD), "tests", "reader_check")


# sw_read_map
SAFE, NEVER, ALWAYS = range(3)


def command(path, threads=1, buffer=0, map=SAFE):
    return [PROGRAM, "-m", str(map), "-t", str(threads), "-b", str(buffer), str(path)]


def run(path, requests=(), env=None, **options):
    """Standard output is bytes."""
    text = json.dumps(list(requests)).encode()
    return subprocess.run(command(path, **options), input=text, env=runner.environment(env), capture_output=True, timeout=120, check=False)


def results(output):
    """[(FQN, dtype, shape, bytes)]"""
    line, _, data = output.partition(b"\n")
    out, at = [], 0
    for name, dtype, shape in json.loads(line):
        n = prod(shape) * oracle.DTYPES[dtype] // 8
        out.append((name, dtype, tuple(shape), data[at : at + n]))
        at += n
    assert at == len(data)
    return out


def read(path, requests=(), env=None, **options):
    """What was asked for, or all tensors where nothing was."""
    done = run(path, requests, env, **options)
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
    return results(done.stdout)


def refused(path, requests, status, *words, env=None, **options):
    """One line that says why, and nothing else."""
    done = run(path, requests, env, **options)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout, text.count("\n")) == (status, b"", 1), f"{done.returncode}: {text}"
    for word in words:
        assert word in text, f"{word!r} not in: {text}"
