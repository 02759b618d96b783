"""verify: healthy checkpoints pass without a word, and whatever is changed is noticed, and told with its place."""

import json
import os
import shutil
import struct

import numpy as np
import oracle
import pytest
from oracle import Tensor
from runner import HERE, errors, fails, ok, run, show

BY_RANK = ["sh", os.path.join(HERE, "by_rank.sh")]


def verify(src, out, *options, **more):
    return run(["verify", *options, src, out], **more)


def lines(result):
    return result.stdout.splitlines()


def differs(result, *wanted, more=0):
    """Status 1, one message, and a line for each of these (all its words in it), plus so many more lines."""
    assert result.status == 1, show(result)
    assert len(errors(result)) == 1, show(result)
    found = lines(result)
    for words in wanted:
        words = (words,) if isinstance(words, str) else words
        assert any(all(str(w) in line for w in words) for line in found), f"{words} not told; {show(result)}"
    if more is not None:
        assert len(found) == len(wanted) + more, show(result)
    if len(found) > 1:
        s = "s" * (len(found) > 2)
        assert f"; {len(found) - 1} more finding{s}" in errors(result)[0], show(result)
    return found


@pytest.fixture
def welded(dirs, make, weld):
    """(checkpoint, input, output): a small sharded checkpoint in two model files, welded."""
    src, out = dirs
    tensors = small()
    ckpt = make(src, tensors=tensors, models={n: 1 + i % 2 for i, n in enumerate(tensors)})
    ok(weld(src, out))
    return ckpt, src, out


def small():
    rng = np.random.default_rng(7)
    out = {
        "a.weight": Tensor("F32", (4, 6), np.arange(24, dtype="<f4").tobytes()),
        "b.weight": Tensor("BF16", (5, 4), b"\x80\x3f" * 20),
        "c.ids": Tensor("I64", (6,), np.arange(6, dtype="<i8").tobytes()),
        "d.norm": Tensor("F64", (), struct.pack("<d", 2.5)),
        "e.flags": Tensor("BOOL", (7,), b"\0\1\0\1\0\1\0"),
        "f.codes": Tensor("F8_E4M3", (3, 5), bytes(range(15))),
        "g.half": Tensor("F16", (2, 2), np.array([1, 2, 3, 4], dtype="<f2").tobytes()),
        "h.empty": Tensor("U8", (0, 4), b""),
    }
    for i in range(6):
        out[f"layers.{i}.weight"] = oracle.random_tensor(rng, "BF16", (64, 33))
    return out


def places(path):
    """{tensor: (dtype, shape, first byte, last byte + 1)} of a file, and where its data begins."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:start])
    return {
        n: (e["dtype"], tuple(e["shape"]), start + e["data_offsets"][0], start + e["data_offsets"][1])
        for n, e in head.items()
        if n != "__metadata__"
    }, start


def where(out, tensor):
    for path in sorted(out.glob("*.safetensors")):
        found, _ = places(path)
        if tensor in found:
            return path, found[tensor]
    raise AssertionError(tensor)


def put(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def flip(path, at, bit=0):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


# ---- healthy ---------------------------------------------------------------------------------------


def test_every_dtype(dirs, make, weld, rng):
    """Elements of 4 and 6 bits too, in bands that are shorter than the tensors."""
    src, out = dirs
    tensors = {f"t.{d}": oracle.random_tensor(rng, d, (40, 48)) for d in oracle.DTYPES}
    make(src, tensors=tensors)
    ok(weld(src, out))
    ok(verify(src, out, "--buffer-size", "4KiB", np=3))
    wanted = []
    for dtype, bits in oracle.DTYPES.items():
        path, (_, _, begin, _) = where(out, f"t.{dtype}")
        elements = sorted({int(e) for e in rng.integers(0, 40 * 48, 2)})
        for e in elements:
            flip(path, begin + e * bits // 8, e * bits % 8)
        index = f"[{elements[0] // 48}, {elements[0] % 48}]"
        wanted.append((path.name, f"'t.{dtype}'", f"element {index} ", f"{len(elements)} of {40 * 48} elements"))
    for np in (None, 3):
        differs(verify(src, out, "--buffer-size", "4KiB", np=np), *wanted)


def test_node_local(tmp_path, make):
    make(tmp_path / "in", ranks=4, replicas=True)
    for rank in range(3):
        (tmp_path / "node" / str(rank)).mkdir(parents=True)
    for i, path in enumerate(sorted((tmp_path / "in").iterdir())):
        shutil.copy(path, tmp_path / "node" / str(i % 3))
    ok(run(["consolidate", "--node-local", "--expect-shards=4", tmp_path / "node" / "@RANK@", tmp_path / "out"], np=3, prefix=BY_RANK))
    again = ["verify", "--node-local", "--expect-shards=4", tmp_path / "node" / "@RANK@", tmp_path / "out"]
    ok(run(again, np=3, prefix=BY_RANK))
    path, (_, _, begin, _) = where(tmp_path / "out", "model.layers.0.q.weight")
    flip(path, begin + 4)
    differs(run(again, np=3, prefix=BY_RANK), (path.name, "'model.layers.0.q.weight'", "element [0, 1] "))


@pytest.mark.parametrize("options", [
    ["--strip-prefix", "layers."],
    ["--rename", "layers.=blocks.", "--exclude", "*.ids"],
    ["--include", "[a-d].*"],
    ["--single-file"],
    ["--max-shard-size", "9KB"],
    ["--max-shard-size", "9KB", "--diffusers"],
])  # fmt: skip
def test_names_and_layouts(welded, weld, options):
    ckpt, src, _ = welded
    out = src.parent / "other"
    ok(weld(src, out, *options))
    ok(verify(src, out, *options))
    if "--single-file" in options or "--max-shard-size" in options:
        ok(verify(src, out))  # in whatever files they are
    else:
        differs(verify(src, out), more=None)


@pytest.mark.parametrize("options, assign", [(["--cast-dtype", "bf16"], "band"), (["--cast-dtype", "fp64"], "owner")])
def test_values(welded, weld, options, assign):
    """What is converted is compared converted."""
    ckpt, src, _ = welded
    out = src.parent / "other"
    ok(weld(src, out, *options))
    for size in ("4KiB", "1MiB"):
        ok(verify(src, out, *options, "--assign", assign, "--buffer-size", size, np=2))
    path, (_, _, begin, end) = where(out, "a.weight")
    flip(path, end - 1, 6)
    differs(verify(src, out, *options), (path.name, "'a.weight'", "element [3, 5] ", "expected 23"))
    differs(verify(src, out), ("'a.weight'", "F32 of shape [4, 6]"), more=None)


@pytest.mark.parametrize("assign", ["band", "owner"])
def test_dequantized(dirs, weld, rng, assign):
    """FP8 in blocks with scales, and MXFP4, in bands of which a line may be longer."""
    src, out = dirs
    codes = np.frombuffer(rng.bytes(200 * 150), dtype="u1") & 0x77  # no NaN
    tensors = {
        "a.weight": Tensor("F8_E4M3", (200, 150), codes.tobytes()),
        "a.weight_scale_inv": Tensor("F32", (2, 2), np.array([1, 2, 0.5, 3], dtype="<f4").tobytes()),
        "e_blocks": Tensor("U8", (2, 40, 3, 16), rng.bytes(2 * 40 * 3 * 16)),
        "e_scales": Tensor("U8", (2, 40, 3), bytes(int(n) for n in rng.integers(120, 135, 240))),
        "n.norm": Tensor("BF16", (64,), rng.bytes(128)),
    }
    oracle.write_sharded(str(src), tensors, {n: oracle.boxes_of(t.shape, (3,), (0,)) for n, t in tensors.items()})
    more = ["--dequantize", "bf16"]
    ok(weld(src, out, *more))
    for size in ("4KiB", "1MiB"):
        ok(verify(src, out, *more, "--assign", assign, "--buffer-size", size, np=3))
    # what scales are taken for is not among what is written, whatever a map names
    (src / ".hf_metadata").mkdir()
    oracle.write_json(str(src / ".hf_metadata" / "fqn_to_file_index_mapping.json"), dict.fromkeys(tensors, 1))
    extra, text = out / "model-00002-of-00002.safetensors", (out / oracle.INDEX).read_text()
    extra.write_bytes(oracle.serialize({"a.weight_scale_inv": tensors["a.weight_scale_inv"]}))
    index = json.loads(text)
    index["weight_map"]["a.weight_scale_inv"] = extra.name
    oracle.write_json(str(out / oracle.INDEX), index)
    differs(verify(src, out, "-q", *more), ("'a.weight_scale_inv'", "is not among"), more=None)
    extra.unlink()
    (out / oracle.INDEX).write_text(text)
    shutil.rmtree(src / ".hf_metadata")
    path, (_, _, begin, _) = where(out, "a.weight")
    flip(path, begin + 2 * (150 * 131 + 7))
    path, (_, shape, begin, end) = where(out, "e")
    assert shape == (2, 96, 40)
    flip(path, end - 1, 7)
    result = verify(src, out, *more, "--assign", assign, "--buffer-size", "4KiB", np=3)
    differs(result, ("'a.weight'", "element [131, 7] ", "1 of 30000"), ("'e'", "element [1, 95, 39] ", "1 of 7680"))
    differs(verify(src, out), more=None)


def test_both_kinds_of_index(welded, weld):
    """A diffusers checkpoint and another in one directory."""
    ckpt, src, out = welded
    for options in ([], ["--diffusers"]):
        assert weld(src, src.parent / "both", *options, "--overwrite").status == 0
    for name, data in oracle.tree(out).items():
        oracle.write(str(src.parent / "both" / name), data)
    differs(verify(src, src.parent / "both"), "diffusion_pytorch_model-00001", "diffusion_pytorch_model-00002")
    differs(verify(src, src.parent / "both", "--diffusers"), "model-00001-of", "model-00002-of")


def test_like(welded, weld, tmp_path):
    ckpt, src, _ = welded
    names = {n: f"sub/part-{i % 3}.safetensors" for i, n in enumerate(ckpt.tensors)}
    oracle.write_json(str(tmp_path / "odd.safetensors.index.json"), {"metadata": {}, "weight_map": names})
    like = ["--like", tmp_path / "odd.safetensors.index.json"]
    ok(weld(src, tmp_path / "other", *like))
    ok(verify(src, tmp_path / "other", *like))
    fails(verify(src, tmp_path / "other"), 3, "neither an index nor weights")
    fails(verify(src, tmp_path / "other", "--like", tmp_path / "no.index.json"), 2, "no.index.json")


# ---- what it says ------------------------------------------------------------------------------------


VALUES = [
    # tensor, byte of its data, new bytes, what is told
    ("a.weight", 4 * 9, struct.pack("<f", 1.5), "element [1, 3] is 1.5, expected 9; 1 of 24 elements differs"),
    ("a.weight", 0, struct.pack("<f", -0.0), "element [0, 0] is -0, expected 0; 1 of 24 elements differs"),
    ("b.weight", 0, b"\xc0\x7f", "element [0, 0] is nan, expected 1; 1 of 20 elements differs"),
    ("b.weight", 38, b"\x80\xbf", "element [4, 3] is -1, expected 1; 1 of 20 elements differs"),
    ("c.ids", 8, struct.pack("<qq", -5, 7), "element [1] is -5, expected 1; 2 of 6 elements differ"),
    ("d.norm", 0, struct.pack("<d", 0.1), "its value is 0.10000000000000001, expected 2.5; 1 of 1 element differs"),
    ("e.flags", 0, b"\1\1\2", "element [0] is true, expected false; 2 of 7 elements differ"),
    ("f.codes", 14, b"\xff", "element [2, 4] is 0xff, expected 0x0e; 1 of 15 elements differs"),
    ("g.half", 2, b"\0\x7c", "element [0, 1] is inf, expected 2; 1 of 4 elements differs"),
]


def test_place_values_and_count(welded):
    """One of each tensor at a time, and again the other way round on several ranks."""
    ckpt, src, out = welded
    for order, np in ((VALUES, None), (VALUES[::-1], 3)):
        wanted = set()
        for tensor, at, data, says in {v[0]: v for v in order}.values():
            path, (_, _, begin, _) = where(out, tensor)
            put(path, begin, ckpt.tensors[tensor].data)
            put(path, begin + at, data)
            wanted.add(f"{path.name}: tensor '{tensor}': {says}")
        assert set(differs(verify(src, out, np=np), more=len(wanted))) == wanted


def test_not_a_number_of_other_bits(dirs, make, weld):
    src, out = dirs
    make(src, tensors={"a": Tensor("F32", (2,), struct.pack("<II", 0x7FC00000, 0))})
    ok(weld(src, out))
    path, (_, _, begin, _) = where(out, "a")
    put(path, begin, struct.pack("<I", 0x7FC00001))
    differs(verify(src, out), "element [0] is nan (0x7fc00001), expected nan (0x7fc00000); 1 of 2")


def test_swapped_rows(welded):
    """Differences in bands of several ranks are told as one."""
    ckpt, src, out = welded
    path, (_, _, begin, _) = where(out, "layers.3.weight")
    data, row = ckpt.tensors["layers.3.weight"].data, 33 * 2
    put(path, begin + 10 * row, data[50 * row : 51 * row])
    put(path, begin + 50 * row, data[10 * row : 11 * row])
    old, new = (np.frombuffer(data[r * row : (r + 1) * row], dtype="<u2") for r in (10, 50))
    count = 2 * int((old != new).sum())
    column = int(np.nonzero(old != new)[0][0])
    differs(verify(src, out, "--buffer-size", "4KiB", np=3),
            (path.name, "'layers.3.weight'", f"element [10, {column}] ", f"{count} of 2112 elements differ"))  # fmt: skip


@pytest.mark.parametrize("np, assign", [(2, "owner"), (5, "band")])
def test_many_differences_at_once(welded, np, assign):
    """The same list whoever finds them."""
    ckpt, src, out = welded
    for i in range(6):
        path, (_, _, begin, end) = where(out, f"layers.{i}.weight")
        put(path, begin, bytes(b ^ 0xFF for b in ckpt.tensors[f"layers.{i}.weight"].data))
    result = verify(src, out, "--assign", assign, "--buffer-size", "8KiB", np=np)
    found = differs(result, *((f"'layers.{i}.weight'", "element [0, 0] ", "2112 of 2112 elements") for i in range(6)))
    assert found == sorted(found)


# ---- a flipped bit anywhere ---------------------------------------------------------------------------


def test_one_flipped_bit_anywhere(welded, rng):
    """First and last byte of each file, of its header and of its data, and random ones: never overlooked."""
    ckpt, src, out = welded
    files = sorted(p for p in out.iterdir())
    assert len(files) == 3
    pristine = {p: p.read_bytes() for p in files}
    drills = []
    for path in files:
        size = len(pristine[path])
        spots = {0, 7, 8, size - 1, size // 2, *(int(i) for i in rng.integers(0, size, 14))}
        if path.suffix == ".safetensors":
            _, start = places(path)
            spots |= {start - 1, start}
        drills += [(path, at) for at in sorted(spots)]
    for path, at in drills:
        bit = int(rng.integers(0, 8))
        flip(path, at, bit)
        result = verify(src, out)
        harmless = path.suffix == ".json" and same_index(pristine[path], path.read_bytes())
        padding = path.suffix == ".safetensors" and same_header(pristine[path], path.read_bytes())
        if harmless or padding:
            ok(result)
        else:
            assert result.status == 1, f"bit {bit} of byte {at} of {path.name}; {show(result)}"
            differs(result, more=None)
            assert path.suffix == ".json" or any(path.name in line for line in lines(result)), show(result)
        path.write_bytes(pristine[path])
    ok(verify(src, out))


def same_json(old, new):
    """A blank that became another blank."""
    try:
        return json.loads(old) == json.loads(new)
    except ValueError:
        return False


def same_index(old, new):
    """The same map and total_size. Members of metadata that nobody knows are legal, other programs write some, and
    total_parameters may be missing: a bit that flips in this key makes one that nobody knows of it, and is overlooked."""
    try:
        was, now = json.loads(old), json.loads(new)
    except ValueError:
        return False
    said = now.get("metadata")
    return (
        now.get("weight_map") == was["weight_map"]
        and isinstance(said, dict)
        and said.get("total_size") == was["metadata"]["total_size"]
        and said.get("total_parameters", was["metadata"]["total_parameters"]) == was["metadata"]["total_parameters"]
    )


def same_header(old, new):
    """The same bytes of data under a header that says the same in another way."""
    start = 8 + int.from_bytes(old[:8], "little")
    return old[:8] == new[:8] and old[start:] == new[start:] and same_json(old[8:start], new[8:start])


# ---- tensors and files ----------------------------------------------------------------------------------


def rewrite(path, tensors, **more):
    path.write_bytes(oracle.serialize(tensors, **more))


def held(ckpt, path):
    return {n: ckpt.tensors[n] for n in places(path)[0]}


@pytest.mark.parametrize("how, says", [
    ("no", "is missing"), ("directory", "no regular file"), (-1, ""), (-8, ""), (-4000, ""), ("header", ""), ("nothing", ""), (1, ""),
])  # fmt: skip
def test_damaged_file(welded, how, says):
    _, src, out = welded
    path = out / "model-00001-of-00002.safetensors"
    _, start = places(path)
    size = path.stat().st_size
    if isinstance(how, str) and how in ("no", "directory"):
        path.unlink()
        if how == "directory":
            path.mkdir()
    else:
        os.truncate(path, {"header": start - 5, "nothing": 0}.get(how) if isinstance(how, str) else size + how)
    differs(verify(src, out), (path.name, says))


def test_names_are_printed_clean(welded):
    """What tears a line, or turns it round, reaches no terminal."""
    ckpt, src, out = welded
    path, _ = where(out, "a.weight")
    rewrite(path, {**held(ckpt, path), "x\u2028y\u202ez": ckpt.tensors["a.weight"]})
    result = verify(src, out)
    assert result.status == 1 and "'x?y?z'" in result.stdout, show(result)
    assert "\u2028" not in result.stdout and "\u202e" not in result.stdout, show(result)


def test_missing_tensor(welded):
    ckpt, src, out = welded
    path, _ = where(out, "a.weight")
    rewrite(path, {n: t for n, t in held(ckpt, path).items() if n != "a.weight"})
    differs(verify(src, out), (path.name, "'a.weight'", "no file holds it"), "total_size", "total_parameters")


def test_missing_tensor_without_an_index(dirs, make, weld):
    src, out = dirs
    ckpt = make(src, tensors=small())
    ok(weld(src, out, "--single-file"))
    rewrite(out / "model.safetensors", {n: t for n, t in ckpt.tensors.items() if n != "a.weight"})
    differs(verify(src, out), ("'a.weight'", "is missing", "F32 of shape [4, 6]"))


def test_extra_tensor(welded, rng):
    ckpt, src, out = welded
    path, _ = where(out, "a.weight")
    rewrite(path, {**held(ckpt, path), "z.extra": oracle.random_tensor(rng, "F32", (3,))})
    differs(verify(src, out), (path.name, "'z.extra'", "not among"), ("'z.extra'", "does not name it"), more=2)


@pytest.fixture
def mapped(welded):
    """A map of .hf_metadata beside the shards that names all their tensors, and one that is tied."""
    ckpt, src, out = welded
    (src / ".hf_metadata").mkdir()
    numbers = {n: 1 + i % 2 for i, n in enumerate([*ckpt.tensors, "tied.weight"])}
    oracle.write_json(str(src / ".hf_metadata" / "fqn_to_file_index_mapping.json"), numbers)
    return ckpt, src, out


def test_a_map_is_no_excuse(mapped, weld, rng):
    """What the shards and the options do not make is not there, whatever a map names."""
    ckpt, src, out = mapped
    made = ["--include", "[a-h].*", "--strip-prefix", "g."]
    assert weld(src, src.parent / "other", *made).status == 0
    ok(verify(src, src.parent / "other", "-q", *made))
    names = ["layers.0.weight", "g.half", "tied.weight"]  # left out, renamed, in no shard
    extra = {n: ckpt.tensors.get(n, oracle.random_tensor(rng, "F32", (3,))) for n in names}
    path, _ = where(src.parent / "other", "a.weight")
    held_now = {n: ckpt.tensors["g.half" if n == "half" else n] for n in places(path)[0]}
    rewrite(path, {**held_now, **extra})
    index = json.loads((src.parent / "other" / oracle.INDEX).read_text())
    index["weight_map"].update(dict.fromkeys(names, path.name))
    index["metadata"]["total_size"] += sum(len(t.data) for t in extra.values())
    del index["metadata"]["total_parameters"]
    oracle.write_json(str(src.parent / "other" / oracle.INDEX), index)
    wanted = [(path.name, f"'{n}'", "is not among the tensors that the shards make") for n in names]
    differs(verify(src, src.parent / "other", "-q", *made), *wanted)


@pytest.mark.parametrize("dtype,shape,says", [
    ("I32", (4, 6), "I32 of shape [4, 6], expected F32 of shape [4, 6]"),
    ("F32", (6, 4), "F32 of shape [6, 4], expected F32 of shape [4, 6]"),
    ("F32", (24,), "F32 of shape [24], expected F32 of shape [4, 6]"),
])  # fmt: skip
def test_other_dtype_or_shape(welded, dtype, shape, says):
    ckpt, src, out = welded
    path, _ = where(out, "a.weight")
    rewrite(path, {**held(ckpt, path), "a.weight": Tensor(dtype, shape, ckpt.tensors["a.weight"].data)})
    differs(verify(src, out), (path.name, "'a.weight'", says))


def test_a_tensor_in_two_files(welded):
    ckpt, src, out = welded
    path, _ = where(out, "a.weight")
    other = next(p for p in sorted(out.glob("*.safetensors")) if p != path)
    rewrite(other, {**held(ckpt, other), "a.weight": ckpt.tensors["a.weight"]})
    differs(verify(src, out), ("'a.weight'",), more=None)


def test_other_file_than_asked_for(welded):
    ckpt, src, out = welded
    found = differs(verify(src, out, "--single-file"), more=None)
    assert any("expected in model.safetensors" in line for line in found), found
    path, _ = where(out, "a.weight")
    other = next(p for p in sorted(out.glob("*.safetensors")) if p != path)
    rewrite(other, {**held(ckpt, other), "a.weight": ckpt.tensors["a.weight"]})
    rewrite(path, {n: t for n, t in held(ckpt, path).items() if n != "a.weight"})
    index = json.loads((out / oracle.INDEX).read_text())
    index["weight_map"]["a.weight"] = other.name
    oracle.write(str(out / oracle.INDEX), json.dumps(index, indent=2, sort_keys=True) + "\n")
    ok(verify(src, out))
    numbers = {n: 1 + i % 2 for i, n in enumerate(ckpt.tensors)}
    oracle.write_json(str(src.parent / "map.json"), numbers)
    differs(verify(src, out, "--fqn-map", src.parent / "map.json"), (other.name, "'a.weight'", f"expected in {path.name}"))


# ---- side files -------------------------------------------------------------------------------------------

SIDES = {"config.json": b'{"dtype": "float32", "a": 1}', "README.md": b"# A model" * 200_000, "sub/run.py": b"pass", "empty.txt": b""}


def with_sides(directory):
    for name, data in SIDES.items():
        oracle.write(str(directory / name), data)


@pytest.mark.parametrize("np, options", [(2, []), (None, ["--cast-dtype", "fp16"])], ids=["copied", "edited"])
def test_side_files(welded, weld, np, options):
    """They are there, and hold what was copied, or what --cast-dtype makes of config.json; of those that nobody copied nothing is said."""
    _, src, out = welded
    with_sides(src / ".hf_metadata")
    ok(weld(src, out, "--overwrite", *options))
    oracle.write(str(out / "notes.txt"), b"mine")
    ok(verify(src, out, *options, np=np))
    put(out / "README.md", 1_500_000, b"!")
    (out / "sub" / "run.py").write_bytes(b"pass #")
    (out / "empty.txt").unlink()
    config = (out / "config.json").read_bytes()
    (out / "config.json").write_bytes(config.replace(b"float", b"bloat"))
    made = ("differs from", "what becomes of") if options else ("differs from",)
    differs(
        verify(src, out, *options, np=np), ("config.json: ", *made, ".hf_metadata/config.json", f"from byte {config.index(b'float')} on"),
        ("README.md: differs from", "from byte 1500000 on"), ("sub/run.py: has 6 bytes, expected 4"), ("empty.txt: is missing",),
    )  # fmt: skip
    report = src.parent / "report.json"
    differs(verify(src, out, *options, "--report", report, "--single-file"), more=None)
    assert any(f["file"] == "README.md" and "--no-assets" in f["hint"] for f in json.loads(report.read_text())["findings"])
    ok(verify(src, out, *options, "--no-assets", np=np))


def test_side_files_from_elsewhere(welded, weld, tmp_path):
    _, src, out = welded
    with_sides(tmp_path / "as")
    oracle.write(str(src / "config.json"), b"{}")
    ok(weld(src, out, "--overwrite", "--assets", tmp_path / "as"))
    ok(verify(src, out, "--assets", tmp_path / "as"))
    differs(verify(src, out), ("config.json", "has 28 bytes, expected 2"))
    (out / "sub" / "run.py").unlink()
    (out / "sub" / "run.py").mkdir()
    differs(verify(src, out, "--assets", tmp_path / "as"), ("sub/run.py: is no regular file",))
    fails(verify(src, out, "--assets", tmp_path / "none"), 2, "none", "no such directory")
    fails(verify(src, out, "--assets", src, "--no-assets"), 2, "no-assets")


@pytest.mark.parametrize("change", ["blank", "order", "cut"])
def test_the_exact_index(welded, weld, change):
    """Of any layout: that of the files that are there, where none is asked for."""
    _, src, out = welded
    ok(weld(src, out, "--overwrite", "--max-shard-size", "10KB"))
    ok(verify(src, out))
    text = (out / oracle.INDEX).read_text()
    index = json.loads(text)
    index["weight_map"] = dict(reversed(index["weight_map"].items()))
    changed = {"blank": text + "\n", "order": json.dumps(index, indent=2) + "\n", "cut": text[:-1]}[change]
    oracle.write(str(out / oracle.INDEX), changed)
    for options in ([], ["--max-shard-size", "10KB"]):
        differs(verify(src, out, *options), (oracle.INDEX, "is not the text that consolidate writes, from byte"))


# ---- index and loaders ------------------------------------------------------------------------------------


def leave(index, out):
    index["weight_map"]["a.weight"] = "../in/" + oracle.shard_name(1)


def rename(index, out):
    """As of a save of other tensors."""
    index["weight_map"]["gone.weight"] = index["weight_map"].pop("a.weight")


def other_file(tensor):
    def change(index, out):
        index["weight_map"][tensor] = next(n for n in sorted(set(index["weight_map"].values())) if n != index["weight_map"][tensor])

    return change


@pytest.mark.parametrize("change, wanted, more", [
    (rename, [("'a.weight'", "does not name it"), ("'gone.weight'", "no file holds it")], 0),
    (other_file("a.weight"), [("'a.weight'", "it is in model-0000")], 0),
    (other_file("h.empty"), [("'h.empty'", "it is in model-0000")], 0),
    (leave, [oracle.INDEX], None),
])  # fmt: skip
def test_index_that_says_other_files(welded, change, wanted, more):
    _, src, out = welded
    index = json.loads((out / oracle.INDEX).read_text())
    change(index, out)
    oracle.write_json(str(out / oracle.INDEX), index)
    differs(verify(src, out), *wanted, more=more)


@pytest.mark.parametrize("text, says", [(t, oracle.INDEX) for t in ("", "{", "[]", '{"weight_map": 1}', '{"weight_map": {}}')]
                         + [(None, "no index"), ("a link", "leads nowhere")])  # fmt: skip
def test_broken_index(welded, text, says):
    _, src, out = welded
    (out / oracle.INDEX).unlink()
    if text == "a link":
        (out / oracle.INDEX).symlink_to("nowhere")
    elif text is not None:
        (out / oracle.INDEX).write_text(text)
    differs(verify(src, out, np=2 if text == "a link" else None), says, more=None)


def test_an_index_of_another_kind(welded):
    """One that is not what was asked for, and one beside a lone file."""
    _, src, out = welded
    differs(verify(src, out, "--diffusers-index"), (oracle.INDEX, "is the index, expected diffusion_pytorch_model"))
    ok(run(["consolidate", "--single-file", src, out.parent / "one"]))
    shutil.copy(out / oracle.INDEX, out.parent / "one")
    differs(verify(src, out.parent / "one", "--single-file"), (oracle.INDEX, "beside a lone file of weights"))


def test_index_with_other_totals(welded):
    _, src, out = welded
    index = json.loads((out / oracle.INDEX).read_text())
    total = index["metadata"]["total_size"]
    index["metadata"]["total_size"] = total + 1
    oracle.write_json(str(out / oracle.INDEX), index)
    differs(verify(src, out), (oracle.INDEX, "total_size"))
    index["metadata"]["total_size"] = total
    del index["metadata"]["total_parameters"]
    index["metadata"]["format"] = "pt"
    oracle.write_json(str(out / oracle.INDEX), index)
    differs(verify(src, out), (oracle.INDEX, "is not the text that consolidate writes, from byte"))
    odd = (({"total_size": str(total)}, "total_size is no number"), ({"total_size": 1e20}, "total_size is 1e+20"), ({"format": "pt"}, "has no total_size"))
    for metadata, says in odd:
        index["metadata"] = metadata
        oracle.write_json(str(out / oracle.INDEX), index)
        differs(verify(src, out), (oracle.INDEX, says))
    del index["metadata"]
    oracle.write_json(str(out / oracle.INDEX), index)
    differs(verify(src, out), (oracle.INDEX, "has no metadata"))


def test_no_index_of_one_file(dirs, make, weld):
    """One of one has a number, so that only an index leads to it."""
    src, out = dirs
    make(src, tensors=small())
    ok(weld(src, out))
    mapping = src.parent / "map.json"
    oracle.write_json(str(mapping), dict.fromkeys(small(), 1))
    ok(verify(src, out, "--fqn-map", mapping))
    (out / oracle.INDEX).unlink()
    differs(verify(src, out), "no index")
    differs(verify(src, out, "--fqn-map", mapping), (oracle.INDEX, "is missing"), "no index")


STRAYS = ["model.safetensors", "model-00003-of-00003.safetensors", "model-old.safetensors", "model.fp16.safetensors",
          "consolidated.safetensors", "adapter.safetensors", oracle.shard_name(1)]  # fmt: skip


def test_stray_weights(welded, weld):
    ckpt, src, out = welded
    lone = src.parent / "lone"
    ok(weld(src, lone, "--single-file"))
    for directory, names in ((out, STRAYS), (lone, STRAYS[1:])):
        for name in names:
            rewrite(directory / name, {"a.weight": ckpt.tensors["a.weight"]})
            rewrite(directory / f".{name}", {"a.weight": ckpt.tensors["a.weight"]})
    differs(verify(src, out), *STRAYS)
    differs(verify(src, lone), *((name, "a stray beside the weights") for name in STRAYS[1:]))


def shards_of(tensors, path):
    return oracle.serialize(tensors, metadata=oracle.shard_metadata({n: [0] * len(t.shape) for n, t in tensors.items()}))


def misaligned(tensors, path):
    """An order that leaves numbers of 8 bytes at odd places."""
    order = sorted(tensors, key=lambda n: len(tensors[n].data) % 8 == 0)
    entries = [(n, tensors[n].dtype, tensors[n].shape, len(tensors[n].data)) for n in order]
    return oracle.header(entries, {"format": "pt"}) + b"".join(tensors[n].data for n in order)


@pytest.mark.parametrize("make_file, says, more", [
    (lambda tensors, path: oracle.serialize(tensors, metadata=None), "format: pt", 0),
    (shards_of, "DCP_SHARDING_INFO", None),
    (misaligned, "begins at byte", 0),
])  # fmt: skip
def test_files_that_loaders_trip_over(welded, make_file, says, more):
    ckpt, src, out = welded
    path, _ = where(out, "c.ids")
    path.write_bytes(make_file(held(ckpt, path), path))
    differs(verify(src, out), (path.name, says), more=more)


@pytest.mark.parametrize("options", [[], ["--single-file"]], ids=" ".join)
def test_a_weld_among_its_shards(sharded, weld, options):
    """And the side files there are their own source."""
    _, src, _ = sharded
    with_sides(src)
    assert weld(src, src, *options).status == 0
    ok(verify(src, src))


# ---- replicas ---------------------------------------------------------------------------------------------


@pytest.fixture
def replicated(dirs, weld):
    """Rows over 2, each twice (and one tensor whole on all four), welded."""
    src, out = dirs
    tensors = {n: t for n, t in small().items() if n.startswith("layers") or n == "a.weight"}
    boxes = {n: oracle.boxes_of(t.shape, (2, 2), (None, 0)) for n, t in tensors.items()}
    boxes["a.weight"] = [oracle.whole((4, 6))] * 4
    oracle.write_sharded(str(src), tensors, boxes, replicas=True)
    ok(weld(src, out))
    return tensors, src, out


@pytest.mark.parametrize("np, assign", [(None, "owner"), (3, "owner"), (5, "band")])
def test_differing_replicas(replicated, np, assign):
    _, src, out = replicated
    ok(verify(src, out, "--assign", assign, "--buffer-size", "5000", np=np))
    path = src / oracle.shard_name(4)
    found, _ = places(path)
    flip(path, found["layers.2.weight"][2] + 3 * 66 + 2, 7)  # row 3 of the second half
    flip(path, found["layers.2.weight"][3] - 1, 7)
    put(path, found["a.weight"][2] + 4, struct.pack("<f", 8))
    first = ("shard-00004", "'layers.2.weight'", "element [35, 1] ", "2 of 1056 elements differ", oracle.shard_name(2))
    second = ("shard-00004", "'a.weight'", "element [0, 1] is 8, expected 1; 1 of 24 elements differs", oracle.shard_name(1))
    differs(verify(src, out, "--assign", assign, "--buffer-size", "8KiB", np=np), first, second)
    # Of a tensor that does not come along nobody asks.
    more = ["--exclude", "layers.2.weight"]
    differs(verify(src, out, "--assign", assign, *more, np=np), second, more=None)


def test_the_replica_that_is_used(replicated):
    """Then the checkpoint differs as well, and so do the other copies."""
    _, src, out = replicated
    path = src / oracle.shard_name(1)
    found, _ = places(path)
    put(path, found["a.weight"][2] + 4, struct.pack("<f", 8))
    others = [(oracle.shard_name(i), "'a.weight'", "is 1, expected 8") for i in (2, 3, 4)]
    differs(verify(src, out), *others, ("model-00001-of-00001", "'a.weight'", "is 1, expected 8"))


# ---- statuses, reports, words -------------------------------------------------------------------------------


def test_what_is_no_checkpoint(welded, tmp_path):
    ckpt, src, out = welded
    (tmp_path / "empty").mkdir()
    fails(verify(src, tmp_path / "empty"), 3, "neither")
    fails(verify(src, tmp_path / "nowhere"), 3, "neither")
    (tmp_path / "file").write_bytes(b"")
    fails(verify(src, tmp_path / "file"), 3)
    fails(verify(src, src), 3, "neither")  # shards are none
    fails(verify(tmp_path / "empty", out), 3, "no safetensors")
    fails(verify(tmp_path / "nowhere", out), 3, "no such directory")
    (src / oracle.shard_name(2, 1, 2)).unlink()
    fails(verify(src, out), 3, "no shard file holds")


def test_lost_shard_numbers(welded):
    _, src, out = welded
    ok(verify(src, out, "--expect-shards", 3))
    fails(verify(src, out, "--expect-shards", 4), 3)


def test_report(welded, tmp_path):
    ckpt, src, out = welded
    ok(verify(src, out, "--report", tmp_path / "r", np=2))
    got = json.loads((tmp_path / "r").read_text())
    assert (got["schema"], got["status"], got["command"], got["findings"], got["ranks"]) == (1, 0, "verify", [], 2)
    assert got["bytes"] == sum(len(t.data) for t in ckpt.tensors.values())
    assert (got["tensors"], got["files"], got["shard_files"], got["replicas"]) == (len(ckpt.tensors), 2, 6, 0)
    path, (_, _, begin, _) = where(out, "a.weight")
    flip(path, begin, 3)
    flip(path, where(out, "c.ids")[1][2], 3)
    result = verify(src, out, "--report", tmp_path / "r", np=2)
    assert result.status == 1
    got = json.loads((tmp_path / "r").read_text())
    assert (got["status"], got["code"]) == (1, "SW_DIFF")
    assert [f["tensor"] for f in got["findings"]] == ["a.weight", "c.ids"]
    assert [f"{f['file']}: tensor '{f['tensor']}': {f['reason']}" for f in got["findings"]] == lines(result)


def test_verbose(welded):
    _, src, out = welded
    result = verify(src, out, "-v", "--progress", "never")
    assert result.status == 0 and result.stdout == ""
    assert "14 tensors in 2 files" in result.stderr and "/s)" in result.stderr, show(result)


def test_output_that_cannot_be_written(welded):
    _, src, out = welded
    path, (_, _, begin, _) = where(out, "a.weight")
    flip(path, begin)
    with open("/dev/full", "wb") as full:
        result = verify(src, out, stdout=full)
    assert result.status == 4, show(result)


def test_nothing_is_written(welded):
    _, src, out = welded
    before = oracle.tree(src.parent)
    path, (_, _, begin, _) = where(out, "a.weight")
    ok(verify(src, out))
    assert oracle.difference(oracle.tree(src.parent), before) == ""


# ---- consolidate --verify -----------------------------------------------------------------------------------


@pytest.mark.parametrize("np, options", [(None, ["--max-shard-size", "9KB"]), (3, ["--assign", "owner"]), (3, ["--cast-dtype", "bf16"])])
def test_consolidate_verify(welded, weld, options, np):
    _, src, out = welded
    plain, checked = src.parent / "plain", src.parent / "checked"
    ok(weld(src, plain, *options, np=np))
    ok(weld(src, checked, *options, "--verify", np=np))
    assert oracle.difference(oracle.tree(checked), oracle.tree(plain)) == ""


def test_consolidate_verify_looks_at_replicas(replicated, weld):
    """Copies that disagree are no good input, and nothing is published."""
    _, src, out = replicated
    path = src / oracle.shard_name(4)
    put(path, places(path)[0]["a.weight"][2] + 4, struct.pack("<f", 8))
    result = weld(src, src.parent / "other", "--verify", np=2)
    assert result.status == 1 and "shard-00004" in errors(result)[0], show(result)
    assert not os.path.exists(src.parent / "other") or oracle.tree(src.parent / "other") == {}
