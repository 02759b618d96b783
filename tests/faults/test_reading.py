"""Failures while boxes are read: an error that names the file, or the right bytes; never the wrong ones, and never the end of the process."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import oracle
import pytest
import runner
from conftest import calls_of
from reading import ALWAYS, NEVER, SAFE, command, read, results, run

# What the reader does without: it goes another way.
SPARED = {"statfs", "setlease", "getlease", "mmap", "populate"}
MAPPING = {SAFE: SPARED, NEVER: {"statfs"}, ALWAYS: {"statfs", "mmap", "populate"}}
STRICT = {"open_shard", "pread", "open", "opendir", "readdir"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """(directory, requests): three shards; columns, so that rows have gaps between them, cast and as saved, and a whole."""
    directory, values = tmp_path_factory.mktemp("shards"), np.random.default_rng(3)
    tensors = {"a": oracle.random_tensor(values, "F32", (60, 900)), "b": oracle.random_tensor(values, "BF16", (45, 64)), "c": oracle.random_tensor(values, "I64", ())}
    oracle.write_sharded(str(directory), tensors, {n: oracle.boxes_of(t.shape, (3,), (0 if t.shape else None,)) for n, t in tensors.items()})
    columns = {"name": "a", "offsets": [0, 300], "shape": [60, 300]}
    narrow = {"name": "b", "offsets": [5, 7], "shape": [40, 30]}
    return directory, [columns, {**narrow, "dtype": "F32"}, {"name": "b"}, narrow, {"name": "c"}]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("map", [SAFE, NEVER, ALWAYS])
def test_every_call(scene, tmp_path, rng, threads, map):
    directory, requests = scene
    want = read(directory, requests, threads=threads, map=map)
    counts = calls_of(tmp_path, lambda listed: read(directory, requests, listed, threads=threads, map=map))
    sites = {site for _, site in counts}
    assert {"open_shard", "pread"} <= sites
    assert MAPPING[map] == SPARED & sites
    for (_, site), n in sorted(counts.items()):
        for nth in range(1, n + 1) if n <= 12 else sorted(rng.sample(range(1, n + 1), 12)):
            for onwards in ("", "+"):
                spec = f"{site}:0:{nth}{onwards}"
                done = run(directory, requests, {"SHARDWELD_FAULT": spec}, threads=threads, map=map)
                text = done.stderr.decode()
                if done.returncode == 0:
                    assert site not in STRICT or threads > 1, f"{spec} was overlooked"
                    assert results(done.stdout) == want, spec
                else:
                    assert site not in SPARED, spec
                    assert (done.returncode, done.stdout, text.count("\n")) == (4, b"", 1), f"{spec}: {done.returncode} {text}"
                    assert site not in ("open_shard", "pread") or "shard-0000" in text, f"{spec}: {text}"


@pytest.mark.parametrize("site", sorted(SPARED))
def test_what_is_not_mapped_is_read(scene, tmp_path, site):
    directory, requests = scene
    want = read(directory, requests, map=NEVER)
    reads = calls_of(tmp_path, lambda listed: read(directory, requests, listed, map=NEVER))[0, "pread"]
    got = []
    counts = calls_of(tmp_path, lambda listed: got.extend(read(directory, requests, {**listed, "SHARDWELD_FAULT": f"{site}:0:1+"})))
    assert got == want
    assert counts[0, site] > 0 and counts[0, "pread"] == reads
    assert site == "getlease" or counts[0, "getlease"] == 0


def stopped(process):
    with open(f"/proc/{process.pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


def copy_of(scene, tmp_path):
    """(directory, requests)"""
    directory, requests = scene
    copy = tmp_path / "in"
    copy.mkdir()
    for name, data in oracle.tree(directory).items():
        oracle.write(str(copy / name), data)
    return copy, requests


def run_until(site, nth, directory, requests, map, **options):
    """The process, which has stopped itself there."""
    pipe = subprocess.PIPE
    env = runner.environment({"SHARDWELD_FAULT": f"{site}:0:{nth}:stop"})
    process = subprocess.Popen(command(directory, map=map), env=env, stdin=pipe, stdout=pipe, stderr=pipe, **options)
    process.stdin.write(json.dumps(requests).encode())
    process.stdin.close()
    process.stdin = None
    end = time.monotonic() + 20
    while not stopped(process):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    return process


def breaks_a_lease(path):
    """Somebody waits for the end of a lease on it."""
    inode = f":{os.stat(path).st_ino} "
    with open("/proc/locks") as f:
        return any(inode in line and "LEASE" in line and "BREAKING" in line for line in f)


def tells_of_the_change(process, out, err):
    assert (process.returncode, out) == (3, b""), f"{process.returncode}: {err.decode()}"
    assert b"shard-0000" in err and (b"became shorter" in err or b"when its header was read" in err), err.decode()


@pytest.mark.parametrize("site, map", [("pread", NEVER), ("populate", ALWAYS)])
@pytest.mark.parametrize("size", [0, 5000])
def test_a_file_that_is_cut_short_meanwhile(scene, tmp_path, site, map, size):
    """Also when it is mapped."""
    directory, requests = copy_of(scene, tmp_path)
    nth = 1
    if site == "pread":  # headers are read first
        listing = tmp_path / "calls"
        run(directory, requests, {"SHARDWELD_FAULT_LIST": str(listing)}, map=map)
        sites = [line.split()[0] for line in listing.read_text().splitlines()]
        nth = sites[: sites.index("open_shard")].count(site) + 1
    process = run_until(site, nth, directory, requests, map)
    for name in os.listdir(directory):
        os.truncate(directory / name, size)
    os.kill(process.pid, signal.SIGCONT)
    tells_of_the_change(process, *process.communicate(timeout=20))


@pytest.mark.parametrize("how", ["truncate", "open"])
def test_who_wants_to_change_a_mapped_file_waits_for_the_reader(scene, tmp_path, how):
    """It may be just in time to read all before the change."""
    directory, requests = copy_of(scene, tmp_path)
    want = read(directory, requests)
    process = run_until("getlease", 1, directory, requests, SAFE)
    shard = directory / oracle.shard_name(1)
    before = shard.read_bytes()
    code = "import os, sys; os.truncate(sys.argv[1], 0)" if how == "truncate" else "import sys; open(sys.argv[1], 'wb')"
    writer = subprocess.Popen([sys.executable, "-c", code, str(shard)])
    end = time.monotonic() + 20
    while not breaks_a_lease(shard):
        assert time.monotonic() < end and writer.poll() is None
        time.sleep(0.01)
    assert shard.read_bytes() == before
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=20)
    assert writer.wait(timeout=20) == 0
    assert shard.read_bytes() == b""
    if process.returncode == 0:
        assert results(out) == want
    else:
        tells_of_the_change(process, out, err)


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.mark.parametrize("change", [True, False])
def test_a_file_that_changes_and_is_closed_to_make_room(tmp_path, rng, change):
    """Few files are open at a time; one that was closed is not forgotten."""
    tensors = {"a": oracle.random_tensor(np.random.default_rng(rng.randrange(2**32)), "F32", (24, 10))}
    oracle.write_sharded(str(tmp_path), tensors, {"a": oracle.boxes_of((24, 10), (12,), (0,))})
    want = read(tmp_path, [{"name": "a"}])
    process = run_until("open_shard", 5, tmp_path, [{"name": "a"}], NEVER, preexec_fn=few_files)
    if change:
        first = tmp_path / oracle.shard_name(1)
        first.write_bytes(first.read_bytes()[:-4] + bytes(4))
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=20)
    if change:
        assert (process.returncode, out) == (3, b"") and b"shard-00001" in err and b"was changed" in err, err.decode()
    else:
        assert process.returncode == 0 and results(out) == want, err.decode()
