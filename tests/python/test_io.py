"""load(), save() and Checkpoint without torch: against the oracle's bytes, alone and under mpirun."""

import json
import os
import pathlib
import subprocess
import sys
import threading
from contextlib import nullcontext
from itertools import product

import numpy as np
import oracle
import pytest
import ranks
import shardweld
from oracle import Tensor
from shardweld import Box, Checkpoint, InputError, UsageError, _placement, check, load, reshard, save, weld
from welding import FILES, SHAPES

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
KINDS = {"F32": "float32", "F16": "float16", "F64": "float64", "I64": "int64", "U8": "uint8", "BF16": "uint16", "BOOL": "bool"}


def array_of(tensor):
    return np.frombuffer(tensor.data, KINDS[tensor.dtype]).reshape(tensor.shape)


def is_part(array, tensor, offsets, shape):
    return array.shape == tuple(shape) and array.tobytes() == oracle.cut(tensor, oracle.Box(tuple(offsets), tuple(shape)))


@pytest.fixture(params=["sharded", "consolidated"])
def saved(request, tmp_path, rng):
    """(path, {name: Tensor}), sharded over four ranks by rows or whole."""
    tensors = {n: oracle.random_tensor(rng, d, s) for n, (d, s) in SHAPES.items()}
    path = str(tmp_path / request.param)
    if request.param == "sharded":
        boxes = {n: oracle.boxes_of(t.shape, (4,), (0,)) if t.shape else [oracle.whole(())] for n, t in tensors.items()}
        oracle.write_sharded(path, tensors, boxes)
    else:
        os.mkdir(path)
        for name, data in oracle.consolidated(tensors, oracle.numbered(FILES)).items():
            oracle.write(os.path.join(path, name), data)
    return path, tensors


@pytest.mark.parametrize("url", ["s3://bucket/x", "memory://x", pathlib.Path("s3://bucket/x")])
def test_urls(url, saved, tmp_path, monkeypatch):
    """No directory called "s3:", but a word of what to do; of file:// the path."""
    path, _ = saved
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    drop_in = shardweld.consolidate_safetensors_files
    for call in (lambda: load(url), lambda: save(url, {"w": np.ones(3)}), lambda: Checkpoint(url), lambda: shardweld.weld(path, url),
                 lambda: shardweld.weld(url, "out"), lambda: shardweld.reshard(path, url, "2"), lambda: drop_in(path, url, None)):  # fmt: skip
        with pytest.raises(UsageError, match="upload from there"):
            call()
    assert sorted(os.listdir()) == before
    there = (tmp_path / "a b").as_uri()
    save(there, {"w": np.ones(3)})
    assert os.listdir("a b") and load(there)["w"].sum() == 3 and load(pathlib.Path(there))["w"].sum() == 3


# ---- load --------------------------------------------------------------------------------------------


def test_whole_tensors(saved):
    path, tensors = saved
    for threads in (1, 3):
        got = load(path, threads=threads)
        assert sorted(got) == sorted(tensors)
        assert all(is_part(got[n], t, [0] * len(t.shape), t.shape) for n, t in tensors.items())
    assert list(load(path, "a.weight")) == ["a.weight"] and list(load(path, ["scale", "d.bias"])) == ["scale", "d.bias"]
    assert got["embed.weight"].dtype == np.uint16 and got["scale"].shape == ()


def test_boxes(saved):
    path, tensors = saved
    got = load(path, ["a.weight", "b.weight"], box=((2, 3), (3, 6)))
    assert all(is_part(got[n], tensors[n], (2, 3), (3, 6)) for n in got)
    got = load(path, box={"a.weight": ((15, 0), (1, 12)), "empty": ((0, 2), (0, 2))})
    assert is_part(got["a.weight"], tensors["a.weight"], (15, 0), (1, 12)) and got["empty"].shape == (0, 2)
    assert got["c.weight"].shape == (8, 3, 2)


@pytest.mark.parametrize("mesh, placements", [((3,), [0]), ((4,), ["shard(1)"]), ((2, 3), ["shard0", 0]), ((2, 2), [None, "shard1"]), ((2, 2), [-1, "replicate"])])
def test_parts_of_a_mesh(saved, mesh, placements):
    path, tensors = saved
    dims = [None if p in (None, "replicate") else -1 if p == -1 else int(str(p).strip("shard()")) for p in placements]
    boxes = {}
    for n, t in tensors.items():
        ndim = len(t.shape)
        fitted = [d if d is None else d % ndim if -ndim <= d < ndim else None for d in dims] if ndim else [None] * len(dims)
        boxes[n] = oracle.boxes_of(t.shape, mesh, fitted)
    for rank, at in enumerate(product(*map(range, mesh))):
        got = load(path, mesh=mesh, coordinate=at, placements=placements)
        assert all(is_part(got[n], t, *boxes[n][rank]) for n, t in tensors.items())


def test_rules_for_placements(saved):
    path, _ = saved
    got = load(path, mesh=(2,), coordinate=(0,), placements={"a.*": [1], "b.weight": ["replicate"]})
    assert got["a.weight"].shape == (16, 6) and got["b.weight"].shape == (5, 9) and got["c.weight"].shape == (4, 3, 2)


def test_strided_parts():
    """As FSDP2 over tensor parallelism has them."""
    part = _placement.part_of((8, 3), (2, 2), (1, 0), [(0, 2), None])
    assert part == ((4, 3), [((2, 0), (2, 3), (0, 0)), ((6, 0), (2, 3), (2, 0))])
    both = _placement.part_of((8, 3), (2, 2), (1, 0), [(0, 2), (0, 1)])
    assert both == ((2, 3), [((2, 0), (2, 3), (0, 0))])
    assert _placement.part_of((3,), (4,), (3,), [(0, 1)]) == ((0,), [((3,), (0,), (0,))])


def test_casts(saved):
    path, tensors = saved
    got = load(path, dtype="float64")
    assert {n: a.dtype.name for n, a in got.items() if n not in ("d.bias", "empty")} == dict.fromkeys(set(got) - {"d.bias", "empty"}, "float64")
    assert got["d.bias"].dtype == np.int64
    with np.errstate(all="ignore"):
        want = array_of(tensors["a.weight"]).astype(np.float64)
    assert np.array_equal(got["a.weight"], want, equal_nan=True)
    assert load(path, "scale", dtype=np.float32)["scale"].dtype == np.float32


def test_mapped(saved, tmp_path):
    """What lies in one file stays there, whole or a box of it; all else is read. Writing does not change the file."""
    path, tensors = saved
    before = oracle.tree(path)
    got = load(path, mmap=True)
    assert sorted(got) == sorted(tensors) and all(is_part(got[n], t, [0] * len(t.shape), t.shape) for n, t in tensors.items())
    mapped = {n for n, a in got.items() if not a.flags.owndata}
    aligned = {n for n, t in tensors.items() if t.data}
    assert mapped <= aligned and (len(mapped) > 2 if "consolidated" in path else mapped == {"scale"}), mapped
    part = load(path, ["a.weight", "b.weight"], box=((2, 3), (3, 6)), mmap=True)
    assert all(is_part(part[n], tensors[n], (2, 3), (3, 6)) for n in part) and part["a.weight"].flags.owndata == ("a.weight" not in mapped)
    part = load(path, mesh=(4,), coordinate=(1,), placements=["shard0"], mmap=True)
    assert is_part(part["a.weight"], tensors["a.weight"], (4, 0), (4, 12)) and part["scale"].shape == ()
    assert load(path, "a.weight", dtype="float64", mmap=True)["a.weight"].dtype == np.float64
    got["a.weight"][:] = 7
    assert (got["a.weight"] == 7).all() and oracle.tree(path) == before
    with pytest.raises(UsageError):
        load(path, "a.weight", box=((2, 3), (30, 6)), mmap=True)
    with pytest.raises(UsageError, match="neither with into"):
        load(path, into={"a.weight": np.zeros((16, 12), np.float32)}, mmap=True)


def test_mapped_files_that_are_cut_short(saved):
    """Before they are mapped: as when they are read."""
    path, _ = saved
    with Checkpoint(path) as cp:
        name = os.path.join(path, cp.boxes("scale")[0].file)
        os.truncate(name, os.path.getsize(name) - 1)
        with pytest.raises(InputError):
            load(path, mmap=True)


def test_numpy_is_on_no_device(saved):
    with pytest.raises(UsageError, match="framework='torch'"):
        load(saved[0], device="cpu", framework="numpy")


def test_into_what_is_there(saved):
    path, tensors = saved
    whole, part = np.zeros((12, 16), np.float32).T, np.full((9, 20), 7, np.float64)
    into = {"a.weight": whole, "b.weight": Box(part[::3, 1:10:2], (1, 2), (5, 9)), "embed.weight": np.zeros((37, 6), np.uint16)}
    got = load(path, into=into)
    assert got["a.weight"] is whole and whole.tobytes() == tensors["a.weight"].data
    assert np.array_equal(part[::3, 1:10:2], array_of(tensors["b.weight"])[1:4, 2:7].astype(np.float64), equal_nan=True)
    assert (part[1] == 7).all() and (part[::3, 2:10:2] == 7).all()
    assert into["embed.weight"].tobytes() == tensors["embed.weight"].data


def test_quantized(tmp_path):
    weight, scale = Tensor("F8_E4M3", (2, 3), bytes([0x38, 0x40, 0xB8, 0, 0x30, 0x48])), Tensor("F32", (1, 1), np.float32(0.5).tobytes())
    oracle.write(tmp_path / "model.safetensors", oracle.serialize({"x.weight": weight, "x.weight_scale_inv": scale, "y": scale}))
    got = load(tmp_path, dtype="float32")
    assert sorted(got) == ["x.weight", "y"] and got["x.weight"].tolist() == [[0.5, 1, -0.5], [0, 0.25, 2]]
    assert load(tmp_path)["x.weight"].tobytes() == weight.data and len(load(tmp_path)) == 3
    assert list(load(tmp_path, ["x.weight_scale_inv"], dtype="bf16")) == ["x.weight_scale_inv"]


def test_numbers_with_scales(tmp_path):
    """Whoever names a floating-point dtype never gets them without, also where they are saved so; who names none gets the bytes."""
    weight, scale = Tensor("F32", (3, 2), np.arange(6, dtype=np.float32).tobytes()), Tensor("F32", (2, 1), np.array([2, -1], np.float32).tobytes())
    oracle.write(tmp_path / "model.safetensors", oracle.serialize({"x.weight": weight, "x.weight_scale_inv": scale}))
    want = [[0, 2], [4, 6], [-4, -5]]
    with pytest.raises(InputError, match="blocks of 128x128"):
        load(tmp_path, dtype="float32")
    assert load(tmp_path, dtype="float32", block_size=(2, 2))["x.weight"].tolist() == want
    oracle.write_json(str(tmp_path / "config.json"), {"quantization_config": {"weight_block_size": [2, 128]}})
    for dtype in ("float32", "float16"):
        assert {n: a.tolist() for n, a in load(tmp_path, dtype=dtype).items()} == {"x.weight": want}
    assert load(tmp_path)["x.weight"].tobytes() == weight.data
    into = {"x.weight": np.zeros((3, 2), np.float32), "x.weight_scale_inv": np.zeros((2, 1), np.float32)}
    load(tmp_path, into=into)
    assert into["x.weight"].tolist() == want and into["x.weight_scale_inv"].tolist() == [[2], [-1]]
    with Checkpoint(tmp_path) as cp:
        assert cp.scale("x.weight") == cp.tensor("x.weight").scale == "x.weight_scale_inv" and cp.scale("x.weight_scale_inv") is None
        assert cp.read("x.weight").tobytes() == weight.data and cp.read("x.weight", (2, 0), (1, 2), dtype="float32").tolist() == want[2:]
        assert cp.read("x.weight", out=np.zeros((3, 2), np.float32)).tolist() == want
        with pytest.raises(UsageError, match="by its scales it becomes"):
            cp.read("x.weight", dtype="float64")


@pytest.mark.parametrize("size, ok", [((2, 128), True), ("2x4", True), (2, True), ([3, 2], False), (0, False)])
def test_block_sizes_of_a_weld(tmp_path, size, ok):
    """One number, two, or text as on the command line."""
    tensors = {"x.weight": Tensor("I8", (3, 2), bytes(range(6))), "x.weight_scale_inv": Tensor("F32", (2, 1), np.array([2, -1], np.float32).tobytes())}
    (tmp_path / "in").mkdir()
    oracle.write(tmp_path / "in" / "model.safetensors", oracle.serialize(tensors))
    with nullcontext() if ok else pytest.raises((UsageError, InputError), match="block"):
        weld(tmp_path / "in", tmp_path / "out", comm="self", dequantize="float32", block_size=size)
        assert load(tmp_path / "out")["x.weight"].tolist() == [[0, 2], [4, 6], [-4, -5]]


@pytest.mark.parametrize("name", ["x.weight_scale", "x.scale"])
def test_scales_of_other_kinds(tmp_path, name):
    weight, scale = Tensor("I8", (1, 2), b"\x01\x02"), Tensor("F32", (1, 1), np.float32(0.5).tobytes())
    oracle.write(tmp_path / "model.safetensors", oracle.serialize({"x.weight": weight, name: scale}))
    for how in ({"dtype": "bf16"}, {"into": {"x.weight": np.zeros((1, 2), np.float32)}}):
        with pytest.raises(InputError, match=f"x.weight.*cannot be dequantized by '{name}'"):
            load(tmp_path, **how)
    assert load(tmp_path)["x.weight"].tolist() == [[1, 2]] and list(load(tmp_path, [name], dtype="bf16")) == [name]


@pytest.mark.parametrize("dtype, shape, stored", [("F4", (3, 4), (3, 2)), ("F6_E2M3", (2, 8), (2, 6)), ("F4", (2, 3), (3,)), ("F8_E8M0", (5,), (5,))])
def test_small_elements(tmp_path, rng, dtype, shape, stored):
    tensor = oracle.random_tensor(rng, dtype, shape)
    oracle.write(tmp_path / "in.safetensors", oracle.serialize({"x": tensor}))
    got = load(tmp_path / "in.safetensors")["x"]
    assert got.shape == stored and got.tobytes() == tensor.data
    if shape[-1] % 4 == 0 or dtype == "F8_E8M0":
        save(tmp_path / "out", {"x": Box(got, dtype=dtype)}, comm="self", single_file=True)
        assert oracle.tree(tmp_path / "out") == oracle.consolidated({"x": tensor}, {"x": oracle.SINGLE}, None)


# ---- Checkpoint ----------------------------------------------------------------------------------------


def test_what_is_in_it(saved):
    path, tensors = saved
    with Checkpoint(path) as cp:
        sharded = path.endswith("sharded")
        assert list(cp) == cp.keys() == sorted(tensors) and len(cp) == cp.info.tensors == len(tensors)
        assert cp.info.kind == ("sharded" if sharded else "plain") and cp.info.nbytes == sum(len(t.data) for t in tensors.values())
        assert cp.info.index == (None if sharded else oracle.INDEX)
        one = cp.tensor("a.weight")
        assert (one.dtype, one.shape, one.nbytes, one.boxes, one.replicas) == ("F32", (16, 12), 768, 4 if sharded else 1, 0)
        assert one.sharding == ("rows over 4" if sharded else "whole")
        boxes = cp.boxes("a.weight")
        assert [b.offsets for b in boxes] == ([(0, 0), (4, 0), (8, 0), (12, 0)] if sharded else [(0, 0)])
        with open(os.path.join(path, boxes[0].file), "rb") as f:
            assert f.read()[boxes[0].at :][: boxes[0].nbytes] == tensors["a.weight"].data[: boxes[0].nbytes]
        assert "a.weight" in cp and "none" not in cp and 3 not in cp
    with pytest.raises(ValueError, match="is closed"):
        cp.read("a.weight")


def test_read(saved):
    path, tensors = saved
    a = array_of(tensors["a.weight"])
    with Checkpoint(path) as cp:
        assert cp.read("a.weight", (3, 2), (5, 7)).tobytes() == a[3:8, 2:9].tobytes()
        out = np.zeros((7, 5), np.float32).T[::-1]
        assert cp.read("a.weight", (3, 2), (5, 7), out=out) is out and out.tobytes() == a[3:8, 2:9].tobytes()
        room = bytearray(768)
        assert cp.read("a.weight", out=room) is room and bytes(room) == tensors["a.weight"].data
        cp.read("a.weight", out=memoryview(room)[:96], dtype="F16", offsets=(0, 0), shape=(4, 12))
        with np.errstate(all="ignore"):
            assert np.array_equal(np.frombuffer(room[:96], np.float16).reshape(4, 12), a[:4].astype(np.float16), equal_nan=True)
        wide = np.zeros((16, 12))
        assert np.array_equal(cp.read("a.weight", out=wide), a.astype(np.float64), equal_nan=True)
        assert cp.read("scale").shape == () and cp.read_as("a.weight", "bf16") == ("BF16", (16, 12))


def test_threads_share_one(saved):
    path, tensors = saved
    with Checkpoint(path) as cp:
        got = {}

        def read(k):
            got[k] = [cp.read(n).tobytes() for n in tensors]

        threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert list(got.values()) == [[t.data for t in tensors.values()]] * 4


def test_what_cannot_be_a_name_is_not_there(saved):
    path, _ = saved
    with Checkpoint(path) as cp:
        assert not any(name in cp for name in ("none", "a.weight\0", "\ud800", b"a.weight", 3))
        with pytest.raises(KeyError, match="no tensor b'a.weight'"):
            cp.tensor(b"a.weight")


def test_closing_waits_for_readers(saved):
    """What a call on another thread holds of it is whole until that call ends."""
    path, tensors = saved
    cp = Checkpoint(path)
    used = cp._open()
    cp.close()
    assert cp._find(used, "a.weight") is not None
    for call in (cp.keys, lambda: cp.read("a.weight"), lambda: "a.weight" in cp):
        with pytest.raises(ValueError, match="is closed"):
            call()


@pytest.mark.parametrize(
    "kind, words, call",
    [
        (KeyError, "no tensor 'none'", lambda p, cp: cp.read("none")),
        (KeyError, "no tensor 'none'", lambda p, cp: load(p, ["a.weight", "none"])),
        (UsageError, "'a.weight'.*not inside", lambda p, cp: cp.read("a.weight", (0, 0), (17, 1))),
        (UsageError, "expected 2 dimensions", lambda p, cp: cp.read("a.weight", (0,), (3,))),
        (UsageError, "expected 2 dimensions", lambda p, cp: load(p, "a.weight", box=((0, 0, 0), (1, 1, 1)))),
        (UsageError, "expected numbers from 0", lambda p, cp: cp.read("a.weight", (0, -1), (3, 1))),
        (UsageError, "expected .offsets, shape.", lambda p, cp: load(p, "a.weight", box=3)),
        (UsageError, "type int", lambda p, cp: load(p, into={"a.weight": 3})),
        (UsageError, "together", lambda p, cp: cp.read("a.weight", (0, 0))),
        (UsageError, "expected F32 .16, 12.", lambda p, cp: cp.read("a.weight", out=np.zeros((3, 3), np.float32))),
        (UsageError, "room for 5", lambda p, cp: cp.read("a.weight", out=bytearray(5))),
        (UsageError, "'a.weight'.*share memory", lambda p, cp: cp.read("a.weight", out=np.lib.stride_tricks.as_strided(np.zeros(12, "f4"), (16, 12), (0, 4)))),
        (UsageError, "cannot be written", lambda p, cp: cp.read("a.weight", out=np.broadcast_to(np.zeros(12, "f4"), (16, 12)))),
        (UsageError, "I64 cannot be read as F32", lambda p, cp: cp.read("d.bias", dtype="F32")),
        (UsageError, "dtype 'float3'", lambda p, cp: cp.read("d.bias", dtype="float3")),
        (UsageError, "framework 'jax'", lambda p, cp: load(p, framework="jax")),
        (UsageError, "exclude", lambda p, cp: load(p, box=((0,), (1,)), mesh=(2,))),
        (UsageError, "coordinate is missing", lambda p, cp: load(p, mesh=(2,))),
        (UsageError, "not in the mesh", lambda p, cp: load(p, mesh=(2,), coordinate=(2,))),
        (UsageError, "placement 'rows'", lambda p, cp: load(p, mesh=(2,), coordinate=(1,), placements=["rows"])),
        (UsageError, "2 placements for a mesh of 1", lambda p, cp: load(p, mesh=(2,), coordinate=(1,), placements=[0, 1])),
        (UsageError, "has shape .3, 3.", lambda p, cp: load(p, into={"a.weight": np.zeros((3, 3), "f4")})),
        (UsageError, "'a.weight'.*byte order", lambda p, cp: load(p, into={"a.weight": np.zeros((16, 12), ">f4")})),
        (UsageError, "comm is 3, expected a process group", lambda p, cp: load(p, comm=3)),
        (FileNotFoundError, "no such file", lambda p, cp: load(p + "none")),
        (InputError, "shard", lambda p, cp: Checkpoint(p, expect_shards=9)),
    ],
)
def test_errors(saved, kind, words, call):
    path, _ = saved
    with Checkpoint(path) as cp, pytest.raises(kind, match=words):
        call(path, cp)


def test_without_numpy(saved, tmp_path):
    """Names, bytes into a buffer, numbers; a new array says what is missing."""
    path, tensors = saved
    text = """if 1:
        import sys
        sys.modules["numpy"] = None
        import shardweld
        with shardweld.Checkpoint(sys.argv[1]) as cp:
            room = bytearray(cp.tensor("a.weight").nbytes)
            cp.read("a.weight", out=room)
            sys.stdout.buffer.write(room)
            try:
                cp.read("a.weight")
            except ImportError as e:
                assert "needs numpy" in str(e)
        shardweld.save(sys.argv[2], {"step": -7})
        with shardweld.Checkpoint(sys.argv[2]) as cp:
            assert int.from_bytes(cp.read("step", out=bytearray(8)), sys.byteorder, signed=True) == -7
        sys.exit(7)
    """
    command = [sys.executable, "-c", text, path, str(tmp_path / "out")]
    done = subprocess.run(command, env=ranks.environment(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (7, tensors["a.weight"].data), done.stderr.decode()


# ---- save ----------------------------------------------------------------------------------------------


def state_of(tensors):
    """Arrays, some of them not contiguous."""
    out = {n: Box(array_of(t), dtype=t.dtype) for n, t in tensors.items()}
    out["a.weight"] = np.asfortranarray(array_of(tensors["a.weight"]))
    out["b.weight"] = np.repeat(array_of(tensors["b.weight"]), 3, axis=1)[::-1, ::3][::-1]
    out["scale"] = array_of(tensors["scale"])[()]
    return out


def test_save(tmp_path, checkpoint):
    tensors = checkpoint.tensors
    save(tmp_path / "out", state_of(tensors), fqn_to_index_mapping=FILES)
    assert oracle.difference(oracle.tree(tmp_path / "out"), oracle.consolidated(tensors, oracle.numbered(FILES))) == ""
    with pytest.raises(UsageError, match="holds a checkpoint already"):
        save(tmp_path / "out", state_of(tensors))
    save(tmp_path / "out", {"n": 3, "f": 2.5, "b": True, "s": np.float16(7)}, overwrite=True, single_file=True)
    got = load(tmp_path / "out")
    assert {n: (a.dtype.name, a.item()) for n, a in got.items()} == {"n": ("int64", 3), "f": ("float64", 2.5), "b": ("bool", 1), "s": ("float16", 7)}
    save(tmp_path / "two", {"w": np.ones(3)}, fqn_to_index_mapping={"w": np.int64(2)})
    assert "model-00002-of-00002.safetensors" in os.listdir(tmp_path / "two")
    save(tmp_path / "cast", {"w": np.ones((3, 4), np.float32)}, cast_dtype="fp16")
    assert load(tmp_path / "cast")["w"].dtype == np.float16


def test_save_shards(tmp_path, checkpoint):
    save(tmp_path / "out", state_of(checkpoint.tensors), consolidated=False)
    assert os.listdir(tmp_path / "out") == [oracle.shard_name(1)]
    assert all(is_part(a, checkpoint.tensors[n], [0] * a.ndim, a.shape) for n, a in load(tmp_path / "out").items())


def test_manifests(tmp_path, checkpoint):
    """However it is written, a tensor is told of alike, and proven."""
    save(tmp_path / "whole", state_of(checkpoint.tensors), manifest=True)
    save(tmp_path / "shards", state_of(checkpoint.tensors), consolidated=False, manifest=True)
    reshard(tmp_path / "shards", tmp_path / "others", "3", manifest=True)
    told = [json.loads((tmp_path / d / "shardweld.manifest.json").read_text())["tensors"] for d in ("whole", "shards", "others")]
    assert all(check(tmp_path / d).ok for d in ("whole", "shards", "others"))
    assert [{n: t["xxh3"] for n, t in one.items()} for one in told] == [{n: t["xxh3"] for n, t in told[0].items()}] * 3
    was = os.stat(tmp_path / "others" / oracle.shard_name(1)).st_ino
    reshard(tmp_path / "shards", tmp_path / "others", "3", if_needed=True)
    assert os.stat(tmp_path / "others" / oracle.shard_name(1)).st_ino == was
    with pytest.raises(InputError, match="'w'.*NaN"):
        save(tmp_path / "nan", {"w": np.array([1, np.nan])}, consolidated=False, refuse_nan=True)


@pytest.mark.parametrize(
    "kind, words, state, options",
    [
        (UsageError, "'w'.*type str", {"w": "text"}, {}),
        (UsageError, "'w'.*type dict", {"w": {"x": np.ones(3)}}, {}),
        (UsageError, "name 3", {3: np.ones(3)}, {}),
        (UsageError, "'w'.*complex128", {"w": np.ones(3, complex)}, {}),
        (UsageError, "'w'.*>f4.*byte order", {"w": np.ones(3, ">f4")}, {}),
        (UsageError, "'w'.*64 bits", {"w": 1 << 63}, {}),
        (UsageError, "no Unicode", {"\ud800": np.ones(3)}, {}),
        (UsageError, "'w'.*index is '1'", {"w": np.ones(3)}, {"fqn_to_index_mapping": {"w": "1"}}),
        (UsageError, "'w'.*index is True", {"w": np.ones(3)}, {"fqn_to_index_mapping": {"w": True}}),
        (UsageError, "'w'.*outside", {"w": Box(np.ones((2, 3)), (1, 0), (2, 3))}, {}),
        (UsageError, "'w'.*box of 2 dimensions", {"w": Box(np.ones((2, 3)), (1,), (2, 3))}, {}),
        (UsageError, "'w'.*taken as BF16", {"w": Box(np.ones(3), dtype="BF16")}, {}),
        (InputError, "'w'.*no rank holds", {"w": Box(np.ones((2, 3)), (1, 0), (4, 3))}, {}),
        (InputError, "'w'", {"w": np.ones(3)}, {"fqn_to_index_mapping": {"other": 1}}),
        (UsageError, "no option 'speed'", {"w": np.ones(3)}, {"speed": 3}),
    ],
)
def test_what_cannot_be_saved(tmp_path, kind, words, state, options):
    with pytest.raises(kind, match=words):
        save(tmp_path / "out", state, **options)
    assert not (tmp_path / "out").exists()


RANK_JOB = """if 1:
    import json, os, sys
    import numpy as np
    import shardweld
    from shardweld import Box, load, save
    rank, size = (int(os.environ["OMPI_COMM_WORLD_" + k]) for k in ("RANK", "SIZE"))
    top = sys.argv[1]
    whole = np.arange(7 * size * 5, dtype=np.float32).reshape(-1, 5)
    mine = {"rows": Box(whole[7 * rank : 7 * rank + 7], (7 * rank, 0), whole.shape), "all": np.arange(9)}
    said = []
    def tell(function, *args, **more):
        try:
            function(*args, **more)
            said.append("ok")
        except Exception as e:
            said.append(type(e).__name__ + ": " + str(e))
    for i, consolidated in enumerate((True, False)):
        path = top + "/out" + str(i)
        save(path, mine, consolidated=consolidated)
        got = load(path, mesh=(size,), placements=["shard1"], comm=None)
        edge = -(-5 // size)
        assert (got["rows"] == whole[:, edge * rank : edge * rank + edge]).all()
        assert (load(path, "rows")["rows"] == whole).all()
    last = rank == size - 1
    tell(save, top + "/bad", {"w": "text"} if last else {"w": np.ones(3)})
    tell(save, top + "/bad", {"w": Box(np.ones((1, 2)), (rank + last, 0), (size + 1, 2))})
    tell(load, top + "/out0", "none" if last else "rows", comm=None)
    tell(load, top + "/out0", "all", box=((9 if last else 0,), (3,)), comm=None)
    tell(load, top + "/none", comm=None)
    tell(load, top + f"/out{last:d}", comm=None)
    with open(top + f"/said{rank}", "w") as f:
        json.dump(said, f)
"""


@pytest.mark.parametrize("np_", [1, 3])
def test_mpirun(tmp_path, np_):
    done = ranks.run([*ranks.mpirun(np_), sys.executable, "-c", RANK_JOB, str(tmp_path)])
    assert done.status == 0, done.stderr
    for rank in range(np_):
        lines = json.loads((tmp_path / f"said{rank}").read_text())
        mine = rank == np_ - 1
        words = ["a value of type str", "no rank holds", "no tensor 'none'", "not inside", "no such file", "different arguments: path"]
        kinds = ["UsageError", "InputError", "KeyError" if mine else "UsageError", "UsageError", "MissingError", "UsageError"]
        if np_ == 1:
            words[-1] = kinds[-1] = "ok"
        assert all(w in line and line.startswith(k) for w, k, line in zip(words, kinds, lines, strict=True)), lines
    assert not (tmp_path / "bad").exists()


# ---- a training job's state ---------------------------------------------------------------------


@pytest.mark.parametrize("where", sorted(out.parent for out in GOLDEN.glob("*/out")), ids=lambda where: where.name)
def test_whatever_was_saved(where):
    """What load() makes of what torch and others saved is what it makes of the weld."""
    got, want = load(where / "in"), load(where / "out")
    if where.name == "distcp_train":
        with Checkpoint(where / "in", everything=True) as cp:
            assert {f"model.{n}" for n in want} < set(cp) and "step" in cp.other_values()
            assert all(cp.read(f"model.{n}").tobytes() == want[n].tobytes() for n in want)
    assert sorted(got) == sorted(want) and all(got[n].tobytes() == want[n].tobytes() and got[n].dtype == want[n].dtype for n in want)


def test_a_list_of_boxes(tmp_path):
    data = np.arange(12, dtype="<f4").reshape(3, 4)
    (tmp_path / "x.bin").write_bytes(b"head" + data.T.tobytes())
    line = {"name": "w", "dtype": "float32", "shape": [3, 4], "file": "x.bin", "offset": 4, "strides": [1, 3]}
    (tmp_path / "list").write_text(json.dumps(line))
    assert np.array_equal(load(tmp_path, boxes=tmp_path / "list")["w"], data)
    with Checkpoint(tmp_path, boxes=tmp_path / "list") as cp:
        assert [(b.at, b.strides) for b in cp.boxes("w")] == [(4, (1, 3))]
