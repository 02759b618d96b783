"""--drop-cache: what was read and written has left the page cache, whoever moved it; without it all of it stays."""

import ctypes
import mmap
import os

import oracle
import pytest
from runner import ok, run

SHAPE = (1024, 4096)  # of F32: 16 MiB


def resident(path):
    """Bytes of a file that are in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = os.path.getsize(path)
    pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), size) as m:
        there = (ctypes.c_ubyte * pages)()
        begin = ctypes.c_char.from_buffer(m)
        if libc.mincore(ctypes.c_void_p(ctypes.addressof(begin)), ctypes.c_size_t(size), there):
            raise OSError(ctypes.get_errno(), "mincore")
        del begin
        return sum(page & 1 for page in there) * mmap.PAGESIZE


def held(*directories):
    return sum(resident(os.path.join(d, n)) for d in directories for n in sorted(os.listdir(d)) if n.endswith(".safetensors"))


@pytest.fixture(params=["rows", "columns"])
def case(request, dirs, make, rng):
    """A checkpoint of 32 MiB whose files are on the disk."""
    src, out = dirs
    tensors = {f"w{i}": oracle.random_tensor(rng, "F32", SHAPE) for i in range(2)}
    cut = 0 if request.param == "rows" else 1
    ckpt = make(src, tensors=tensors, boxes={n: oracle.boxes_of(SHAPE, (4,), (cut,)) for n in tensors})
    os.sync()
    with open(src / os.listdir(src)[0], "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if resident(f.name):
            pytest.skip("this file system keeps all of it in memory")
    return ckpt, src, out


@pytest.mark.parametrize("options, np", [
    ([], None),
    ([], 2),
    (["--assign", "owner"], 2),
    (["--no-sync"], None),
    (["--verify"], None),
    (["--store", "stream"], 2),
    (["--cast-dtype", "bf16"], None),
    (["--buffer-size", "300KiB"], None),
])  # fmt: skip
def test_it_has_left(case, weld, options, np):
    ckpt, src, out = case
    ok(weld(src, out, "--drop-cache", *options, np=np))
    assert held(src, out) <= 64 << 10
    if "--cast-dtype" not in options:
        assert oracle.difference(oracle.tree(out), ckpt.expect()) == ""


def test_without_it_all_stays(case, weld):
    _, src, out = case
    ok(weld(src, out))
    assert held(src, out) >= 64 << 20
    ok(run(["verify", "--drop-cache", src, out]))
    assert held(src, out) <= 64 << 10


def test_through_a_depot(case, weld, tmp_path):
    ckpt, src, out = case
    ok(weld(src, out, "--drop-cache", "--staging-dir", tmp_path / "depot"))
    assert held(src, out) <= 64 << 10
    assert oracle.difference(oracle.tree(out), ckpt.expect()) == ""


def test_shards(case, tmp_path):
    _, src, _ = case
    ok(run(["reshard", "--drop-cache", "--ranks", "3", src, tmp_path / "rows"]))
    ok(run(["reshard", "--drop-cache", "--ranks", "3", "--placements", "shard1", src, tmp_path / "columns"]))
    assert held(src, tmp_path / "rows", tmp_path / "columns") <= 64 << 10
