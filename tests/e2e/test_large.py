"""Tensors over 4 GiB, dimensions over INT_MAX, offsets over 2^32, and the memory that a rank takes.

The shards are holes with a few bytes placed in them, so that only the output (4.4 GB) takes room: the test
that writes it runs where 12 GiB are free, or LARGE=1 says so; LARGE=0 leaves it out.
"""

import os
import shutil
import subprocess
import sys

import oracle
import pytest
from runner import HERE, fails, ok, run

COLUMNS = 2_200_000_000
FIRST = 2_147_483_700  # of them in the first shard: over INT_MAX, and the box is over 2^32 bytes
ALLOWANCE = 48 << 20


def room(tmp_path):
    large = os.environ.get("LARGE")
    if large == "0" or (large is None and shutil.disk_usage(tmp_path).free < 12 << 30):
        pytest.skip("writes 4.4 GB; LARGE=1 asks for it")


def sparse(path, head, size, placed):
    """A file of holes behind its header; placed: {position in the data: bytes}."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as f:
        f.write(head)
        for at, data in placed.items():
            f.seek(len(head) + at)
            f.write(data)
        f.truncate(len(head) + size)


def marks():
    """{(row, column): bytes} to be found again: at every edge where a 31, 32 or 33 bit number would turn over."""
    at = [(0, 0), (0, FIRST - 1), (0, FIRST), (0, COLUMNS - 1), (1, 0), (1, FIRST - 2), (1, FIRST), (1, COLUMNS - 1)]
    at += [(0, 2**31 - 1), (0, 2**31), (1, 2**31 - 1), (1, 2**32 - FIRST), (1, 2**32 - COLUMNS - 1), (1, 123_456_789)]
    return {place: bytes([i + 1]) for i, place in enumerate(at)}


def shards(src):
    """U8 [2, 2.2e9] in two column shards, a small F32 before it and a BOOL behind it."""
    for i, (begin, width) in enumerate([(0, FIRST), (FIRST, COLUMNS - FIRST)], 1):
        entries = [("big", "U8", (2, width), 2 * width)]
        offsets = {"big": (0, begin)}
        placed = {r * width + c - begin: b for (r, c), b in marks().items() if begin <= c < begin + width}
        size = 2 * width
        if i == 2:
            entries = [("small", "F32", (3,), 12), *entries, ("zlast", "BOOL", (5,), 5)]
            offsets.update(small=(0,), zlast=(0,))
            placed = {0: b"abcdefghijkl", **{at + 12: b for at, b in placed.items()}, 12 + size: b"\1\0\1\1\0"}
            size += 17
        sparse(src / oracle.shard_name(i), oracle.header(entries, oracle.shard_metadata(offsets)), size, placed)


def expected(path):
    entries = [("small", "F32", (3,), 12), ("big", "U8", (2, COLUMNS), 2 * COLUMNS), ("zlast", "BOOL", (5,), 5)]
    placed = {0: b"abcdefghijkl", **{12 + r * COLUMNS + c: b for (r, c), b in marks().items()}, 12 + 2 * COLUMNS: b"\1\0\1\1\0"}
    sparse(path, oracle.header(entries, {"format": "pt"}), 17 + 2 * COLUMNS, placed)


def peaks(path):
    return [int(line) for line in path.read_text().split()]


@pytest.mark.parametrize("assign", ["band", "owner"])
def test_four_gigabytes(tmp_path, assign):
    """One tensor of 4.4 GB: every byte at its place, and no more memory than promised."""
    room(tmp_path)
    if assign == "owner" and os.environ.get("LARGE") != "1":
        pytest.skip("LARGE=1 asks for it")
    shards(tmp_path / "in")
    expected(tmp_path / "want" / oracle.SINGLE)
    buffer = 16 << 20
    args = ["consolidate", "--single-file", "--no-sync", "--assign", assign, "--buffer-size", buffer, tmp_path / "in", tmp_path / "out"]
    try:
        ok(run(args, np=2, prefix=[sys.executable, os.path.join(HERE, "peak.py"), str(tmp_path / "peaks")], timeout=300))
        cmp = subprocess.run(["cmp", tmp_path / "out" / oracle.SINGLE, tmp_path / "want" / oracle.SINGLE], capture_output=True, check=False)
        assert cmp.returncode == 0, cmp.stdout
        assert len(peaks(tmp_path / "peaks")) == 2
        assert max(peaks(tmp_path / "peaks")) <= buffer + ALLOWANCE, peaks(tmp_path / "peaks")
    finally:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize("np", [None, 2])
def test_memory_does_not_grow_with_the_buffer_alone(tmp_path, np):
    """A plan of a large tensor takes no memory of its size."""
    shards(tmp_path / "in")
    args = ["consolidate", "-n", "--buffer-size", "4KiB", tmp_path / "in", tmp_path / "out"]
    result = run(args, np=np, prefix=[sys.executable, os.path.join(HERE, "peak.py"), str(tmp_path / "peaks")])
    assert result.status == 0, result
    assert max(peaks(tmp_path / "peaks")) <= 4096 + ALLOWANCE, peaks(tmp_path / "peaks")


def test_shapes_that_only_a_plan_can_hold(tmp_path):
    """Petabytes of holes: sizes beyond any disk are refused for want of space, not for want of arithmetic."""
    size = 1 << 43
    head = oracle.header([("w", "F64", (1 << 20, 1 << 20), size)], oracle.shard_metadata({"w": (0, 0)}))
    try:
        sparse(tmp_path / "in" / oracle.shard_name(1), head, size, {})
    except OSError:
        pytest.skip("the file system holds no sparse file of 8 TiB")
    result = run(["consolidate", "-n", tmp_path / "in", tmp_path / "out"])
    assert result.status == 0, result
    if shutil.disk_usage(tmp_path).free < size:
        fails(run(["consolidate", tmp_path / "in", tmp_path / "out"], np=2), 4, "space")
