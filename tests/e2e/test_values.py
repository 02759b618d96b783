"""--cast-dtype, --dequantize and the mapping of dtypes: what is written is what values.py says, byte for byte, whatever the
sharding, the ranks, the assignment and the buffer."""

import json
import os
import re
import shutil
import sys

import numpy
import oracle
import pytest
import values
from conftest import SEED
from oracle import same
from runner import HERE, ROOT, fails, ok, run, show, warns
from test_large import ALLOWANCE, peaks, sparse
from test_random import layout

sys.path.insert(0, os.path.join(ROOT, "tests", "unit", "tables"))
import sets  # noqa: E402

ROUNDS = max(1, int(os.environ.get("ROUNDS", "24")) // 6)
MAPPING = "fqn_to_dtype_mapping.json"
TARGETS = ["BF16", "F16", "F32", "F64"]
WORDS = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}
MESHES = {"rows": ((4,), (0,)), "columns": ((4,), (1,)), "grid": ((2, 2), (0, 1)), "dirg": ((2, 2), (1, 0)), "whole": ((4,), (None,))}


def boxes_of(tensor, how):
    mesh, places = MESHES[how]
    return oracle.boxes_of(tensor.shape, mesh, [p if p is not None and p < len(tensor.shape) else None for p in places])


def floats(rng):
    """Every floating dtype, sharded in every way; and some of those that are never cast."""
    tensors, how = {}, {}
    shapes = {"rows": (23, 7), "columns": (9, 31), "grid": (17, 22), "whole": (), "vector": (1001,), "empty": (0, 4), "hollow": (3, 0)}
    for dtype in values.FLOATING:
        for kind, shape in shapes.items():
            name = f"{kind}.{dtype.lower()}.weight"
            tensors[name] = values.hard_numbers(rng, dtype, shape)
            how[name] = kind if kind in MESHES else "rows"
    tensors["big"], how["big"] = values.hard_numbers(rng, "F32", (130, 103)), "grid"
    tensors["deep"], how["deep"] = values.hard_numbers(rng, "BF16", (5, 6, 7, 3)), "columns"
    for i, dtype in enumerate(["I64", "BOOL", "U8", "F8_E4M3", "F8_E8M0", "C64", "I16"]):
        tensors[f"other.{i}"], how[f"other.{i}"] = oracle.random_tensor(rng, dtype, (6, 5)), "columns"
    return tensors, {n: boxes_of(t, how[n]) for n, t in tensors.items()}


@pytest.fixture
def zoo(rng, make, dirs):
    tensors, boxes = floats(rng)
    models = {n: 1 + i % 3 for i, n in enumerate(tensors)}
    make(dirs[0], tensors=tensors, boxes=boxes, models=models)
    return tensors, models


def welded(tensors, models):
    """models may name what is not written: its number still counts."""
    return oracle.consolidated(tensors, {n: f for n, f in oracle.numbered(models).items() if n in tensors})


def smallest(np, assign):
    """The smallest buffer with which that many ranks convert and exchange."""
    return f"{max(4, np if assign == 'owner' else 0)}KiB" if np else "4KiB"


def mapping(src, names):
    oracle.write_json(str(src / ".hf_metadata" / MAPPING), names)


# ---- the oracle -----------------------------------------------------------------------------------


def table(name):
    """Rows X(...) of a table that torch made, with their numbers read."""
    with open(os.path.join(ROOT, "tests", "unit", "tables", name)) as f:
        for row in re.findall(r"^    X\((.*)\)", f.read(), re.MULTILINE):
            yield [int(w, 0) if w[0].isdigit() else w for w in row.split(", ")]


def test_the_oracle_casts_as_torch():
    rows = [r for r in table("cast.inc") if len(r) == 4]
    assert len(rows) == 18
    for name, source, target, want in rows:
        bits = sets.cast_set(name, source)
        got = values.cast(values.from_bits(source, bits.shape, bits), target)
        assert sets.hash_of(values.bits_of(got)) == want, (name, source, target)


def test_the_oracle_dequantizes_as_torch():
    rows = [r for r in table("dequant.inc") if len(r) == 2 and r[0] in TARGETS]
    assert len(rows) == 3
    blocks = values.from_bits("U8", (1, 1, 1, 16), [2 * i % 16 | (2 * i + 1) % 16 << 4 for i in range(16)])
    for target, want in rows:
        each = [values.bits_of(values.mxfp4(blocks, values.from_bits("U8", (1, 1, 1), [s]), target))[:16] for s in range(256)]
        assert sets.hash_of(numpy.concatenate(each)) == want, target


# ---- --cast-dtype ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,dtype",
    [("fp16", "F16"), ("fp64", "F64"), ("torch.bfloat16", "BF16"), ("float32", "F32"), ("none", None)],
)
def test_spellings(dirs, zoo, weld, text, dtype):
    src, out = dirs
    tensors, models = zoo
    ok(weld(src, out, "--cast-dtype", text))
    same(out, welded(values.cast_all(tensors, dtype) if dtype else tensors, models))


@pytest.mark.parametrize(
    "dtype,np,assign",
    [("BF16", 2, "owner"), ("F16", 24, "band"), ("F64", None, "band"), ("F32", 1, "band")],
)
def test_cast(dirs, zoo, weld, dtype, np, assign):
    """A buffer so small that elements are cut from their neighbours in every way."""
    src, out = dirs
    tensors, models = zoo
    ok(weld(src, out, "--no-sync", "--buffer-size", smallest(np, assign), "--assign", assign, "--cast-dtype", WORDS[dtype], np=np))
    same(out, welded(values.cast_all(tensors, dtype), models))


def test_cast_of_a_plain_checkpoint(dirs, rng, weld):
    src, out = dirs
    tensors, _ = floats(rng)
    files = oracle.numbered({n: 1 + i % 2 for i, n in enumerate(tensors)})
    oracle.write_plain(str(src), tensors, files, oracle.INDEX)
    ok(weld(src, out, "--cast-dtype=fp16"))
    same(out, oracle.consolidated(values.cast_all(tensors, "F16"), files))


def test_cast_of_shards_that_each_rank_sees_alone(dirs, zoo, weld, tmp_path):
    src, out = dirs
    tensors, models = zoo
    for rank in range(3):
        (tmp_path / "local" / str(rank)).mkdir(parents=True)
    for i, path in enumerate(sorted(src.iterdir())):
        os.link(path, tmp_path / "local" / str(i % 3) / path.name)
    prefix = ["sh", os.path.join(HERE, "by_rank.sh")]
    ok(weld(tmp_path / "local" / "@RANK@", out, "--node-local", "--expect-shards=4", "--buffer-size=4KiB", "--cast-dtype=fp32", np=3, prefix=prefix))
    same(out, welded(values.cast_all(tensors, "F32"), models))


@pytest.mark.parametrize("dtype", ["BF16", "F64"])
def test_split_by_size_counts_what_is_written(dirs, zoo, weld, dtype):
    src, out = dirs
    want = values.cast_all(zoo[0], dtype)
    for limit in (7000, 30000):
        ok(weld(src, out, "--overwrite", "--max-shard-size", limit, "--cast-dtype", WORDS[dtype]))
        same(out, oracle.consolidated(want, *oracle.by_size(want, limit)))


def test_dry_run_counts_what_would_be_written(dirs, zoo, weld):
    src, out = dirs
    tensors, models = zoo
    result = weld(src, out, "-n", "--cast-dtype=fp64")
    assert result.status == 0 and result.stderr == "", show(result)
    for name, data in welded(values.cast_all(tensors, "F64"), models).items():
        assert name == oracle.INDEX or str(len(data)) in result.stdout, show(result)
    assert not out.exists()


def test_the_report_counts_what_was_written(dirs, zoo, weld, tmp_path):
    src, out = dirs
    want = values.cast_all(zoo[0], "BF16")
    ok(weld(src, out, "--cast-dtype=bf16", "--report", tmp_path / "r"))
    got = json.loads((tmp_path / "r").read_text())
    assert got["bytes"] == sum(len(t.data) for t in want.values())
    assert got["bytes_written"] == sum(p.stat().st_size for p in out.glob("*.safetensors"))


# ---- the mapping of dtypes ------------------------------------------------------------------------


def few(rng):
    """{name: tensor}: what mappings speak of."""
    shapes = {"a.f32": "F32", "b.bf16": "BF16", "c.f16": "F16", "d.f64": "F64", "e.i64": "I64", "f.u8": "U8", "g.fp8": "F8_E4M3"}
    return {n: values.hard_numbers(rng, d, (11, 6)) if d in values.FLOATING else oracle.random_tensor(rng, d, (11, 6)) for n, d in shapes.items()}


# Every rule: tests/unit/test_outputs.c. What, mapping, --cast-dtype or None, {name: dtype of the output} of those that change, how many the warning counts.
RULES = [
    ("none is as if not given", {"a.f32": "torch.bfloat16", "c.f16": "float32", "d.f64": "F16"}, "none", {"a.f32": "BF16", "c.f16": "F32", "d.f64": "F16"}, 0),
    ("quantized or integer", {"a.f32": "float8_e4m3fn", "b.bf16": "int64", "e.i64": "int32", "c.f16": "bfloat16"}, None, {"c.f16": "BF16"}, 3),
    ("F32 by nature", {"a.f32": "float32", "b.bf16": "bfloat16"}, "fp16", {"b.bf16": "F16", "d.f64": "F16"}, 0),
]


@pytest.mark.parametrize("names,cast,becomes,counted", [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_mapping(dirs, rng, make, weld, names, cast, becomes, counted):
    src, out = dirs
    tensors = few(rng)
    make(src, tensors=tensors)
    mapping(src, names)
    options = ["--cast-dtype", cast] if cast else []
    want = {n: values.cast(t, becomes.get(n, t.dtype)) for n, t in tensors.items()}
    warns(weld(src, out, *options), 1 if counted else 0, *([MAPPING, str(counted)] if counted else []))
    same(out, welded(want, {n: 1 for n in want}))
    if counted:
        ok(weld(src, out, "-q", "--overwrite", *options))


@pytest.mark.parametrize("cast", [[], ["--cast-dtype=bf16"]])
def test_a_mapping_that_names_no_dtype(dirs, rng, make, weld, cast):
    src, out = dirs
    make(src, tensors=few(rng))
    mapping(src, {"a.f32": "float32", "c.f16": "float7"})
    fails(weld(src, out, *cast), 3, "c.f16", "float7", MAPPING)
    assert not out.exists()


# ---- --dequantize: FP8 ----------------------------------------------------------------------------


def fp8s(rng):
    """Weights and scales sharded otherwise; ragged edges; (tensors, boxes, {weight: scale})."""
    tensors, boxes, pairs = {}, {}, {}
    rows = [("a", "F8_E4M3", (300, 261), "F32", "rows", "columns"), ("b", "F8_E5M2", (129, 500), "BF16", "columns", "rows"),
            ("c", "F8_E4M3", (257, 258), "F8_E8M0", "grid", "dirg"), ("d", "F8_E5M2", (1, 1), "F32", "rows", "whole"),
            ("e", "F8_E4M3", (128, 128), "F32", "dirg", "rows"), ("f", "F8_E5M2", (5, 640), "F8_E8M0", "whole", "columns"),
            ("g", "F8_E4M3", (640, 3), "BF16", "rows", "grid"), ("h", "F8_E4M3", (0, 7), "F32", "rows", "rows")]  # fmt: skip
    for name, dtype, shape, scale, how, scale_how in rows:
        made = values.scaled_tensors(rng, f"model.{name}", dtype, shape, scale)
        tensors.update(made)
        weight, scales = made
        boxes[weight], boxes[scales] = boxes_of(made[weight], how), boxes_of(made[scales], scale_how)
        pairs[weight] = scales
    for name, dtype in (("norm.weight", "F32"), ("embed.weight", "BF16"), ("ids", "I64"), ("half", "F16")):
        tensors[name] = values.hard_numbers(rng, dtype, (9, 10)) if dtype in values.FLOATING else oracle.random_tensor(rng, dtype, (9, 10))
        boxes[name] = boxes_of(tensors[name], "rows")
    return tensors, boxes, pairs


def without_scales(tensors, pairs, dtype):
    """What --dequantize makes of pairs of FP8 weights and scales."""
    out = {n: t for n, t in tensors.items() if n not in pairs.values()}
    out.update({w: values.scaled(tensors[w], tensors[s], dtype) for w, s in pairs.items()})
    return out


@pytest.mark.parametrize(
    "dtype,np,assign",
    [("F16", None, "band"), ("BF16", 2, "band"), ("F32", 16, "owner")],
)
def test_fp8(dirs, rng, make, weld, dtype, np, assign):
    src, out = dirs
    tensors, boxes, pairs = fp8s(rng)
    models = {n: 1 + i % 3 for i, n in enumerate(tensors)}
    make(src, tensors=tensors, boxes=boxes, models=models)
    options = ["--no-sync", "--buffer-size", smallest(np, assign), "--dequantize", WORDS[dtype]] + (["--assign", assign] if np else [])
    ok(weld(src, out, *options, np=np))
    same(out, welded(without_scales(tensors, pairs, dtype), models))


def test_fp8_of_a_plain_checkpoint(dirs, rng, weld):
    """Its index names the scales; weight and scale are in different files."""
    src, out = dirs
    tensors, _, pairs = fp8s(rng)
    files = oracle.numbered({n: 2 if n in pairs.values() else 1 + 2 * (i % 2) for i, n in enumerate(tensors)})
    oracle.write_plain(str(src), tensors, files, oracle.INDEX)
    ok(weld(src, out, "--dequantize=torch.bfloat16", "--buffer-size=64KiB"))
    same(out, oracle.consolidated(without_scales(tensors, pairs, "BF16"), {n: f for n, f in files.items() if n not in pairs.values()}))


@pytest.mark.parametrize("option", [True, False])
def test_maps_that_name_scales(dirs, rng, make, weld, tmp_path, option):
    """They disappear without a word."""
    src, out = dirs
    tensors, boxes, pairs = fp8s(rng)
    make(src, tensors=tensors, boxes=boxes)
    numbers = {n: 1 if n in pairs.values() else 2 + i % 2 for i, n in enumerate(tensors)}
    where = tmp_path / "map.json" if option else src / ".hf_metadata" / "fqn_to_file_index_mapping.json"
    oracle.write_json(str(where), numbers)
    ok(weld(src, out, "--dequantize=bf16", *(["--fqn-map", where] if option else [])))
    same(out, welded(without_scales(tensors, pairs, "BF16"), numbers))


def test_nothing_to_dequantize(sharded, weld):
    ckpt, src, out = sharded
    warns(weld(src, out, "--dequantize=bf16"), 1, "dequantize")
    same(out, ckpt.expect())


def test_scales_that_do_not_fit(dirs, rng, make, weld):
    """In any way: tests/unit/test_outputs.c. Without the option it is nobody's business."""
    src, out = dirs
    ckpt = make(src, tensors={"a.weight_scale_inv": oracle.random_tensor(rng, "F32", (2, 2)), "b": oracle.random_tensor(rng, "F32", (4,))})
    fails(weld(src, out, "--dequantize=bf16"), 3, "a.weight_scale_inv")
    assert not out.exists()
    ok(weld(src, out))
    same(out, ckpt.expect())


# ---- --dequantize: other weights, other blocks ----------------------------------------------------


def scaled_model(rng, block):
    """Weights of every kind with scales of every kind, and one of plain numbers; (tensors, boxes, {weight: scale})."""
    tensors, boxes, pairs = {"n": values.hard_numbers(rng, "F32", (9, 10))}, {}, {}
    rows = [("I8", "F32", (200, 261)), ("BF16", "F32", (129, 130)), ("F32", "BF16", (64, 500)), ("I32", "F64", (7, 128)), ("F64", "F8_E8M0", (300, 3)),
            ("F8_E4M3", "F16", (128, 200)), ("F16", "F32", (1, 65)), ("I8", "F32", (0, 5))]  # fmt: skip
    for i, (dtype, scale, shape) in enumerate(rows):
        weight, scales = made = values.scaled_tensors(rng, f"m.{i}", dtype, shape, scale, block)
        tensors.update(made)
        pairs[weight] = scales
    boxes = {n: boxes_of(t, list(MESHES)[i % len(MESHES)]) for i, (n, t) in enumerate(tensors.items())}
    return tensors, boxes, pairs


# Who says how large the blocks are; the first counts.
@pytest.mark.parametrize(
    "told,block,dtype,np,assign",
    [("nobody", (128, 128), "BF16", 2, "band"), ("option", (64, 64), "F32", 3, "owner"), ("option", (1, 32), "F16", None, "band"),
     ("config", (100, 7), "BF16", 2, "owner"), ("metadata", (32, 32), "F16", 3, "band"), ("assets", (64, 128), "F32", None, "band")],
)  # fmt: skip
def test_scaled(dirs, rng, make, weld, tmp_path, told, block, dtype, np, assign):
    src, out = dirs
    tensors, boxes, pairs = scaled_model(rng, block)
    make(src, tensors=tensors, boxes=boxes)
    size = ["--block-size", "x".join(map(str, block)) if block[0] != block[1] else block[0]]
    options = ["--dequantize", WORDS[dtype], "--no-sync", "--buffer-size", smallest(np, assign), *(["--assign", assign] if np else [])]
    options += {"option": size, "assets": ["--assets", tmp_path / "more"]}.get(told, [])
    config = {"quantization_config": {"weight_block_size": list(block)}}
    if told != "nobody":
        other = {"quantization_config": {"weight_block_size": [11, 13]}}
        oracle.write_json(str(src / "config.json"), config if told == "config" else other)
    if told in ("metadata", "assets"):
        oracle.write_json(str((src / ".hf_metadata" if told == "metadata" else tmp_path / "more") / "config.json"), {"text_config": config})
    ok(weld(src, out, *options, np=np))
    want = {n: t for n, t in tensors.items() if n not in pairs.values()}
    want.update({w: values.scaled(tensors[w], tensors[s], dtype, block) for w, s in pairs.items()})
    assert oracle.difference({n: d for n, d in oracle.tree(out).items() if n != "config.json"}, welded(want, {n: 1 for n in want})) == ""
    ok(run(["verify", "-q", "--dequantize", WORDS[dtype], *(options[-2:] if told in ("option", "assets") else []), src, out]))


def test_blocks_of_another_size(dirs, rng, make, weld):
    """What config.json says is believed, and checked."""
    src, out = dirs
    make(src, tensors=values.scaled_tensors(rng, "a", "F8_E4M3", (256, 256)))
    oracle.write_json(str(src / "config.json"), {"quantization_config": {"weight_block_size": [64, 64]}})
    fails(weld(src, out, "--dequantize=bf16"), 3, "a.weight_scale_inv", "blocks of 64x64")
    ok(weld(src, out, "--dequantize=bf16", "--block-size=128"))


# ---- --dequantize: MXFP4 --------------------------------------------------------------------------


def along(tensor, dim, parts=4):
    return oracle.boxes_of(tensor.shape, (parts,), (dim,))


def experts(rng):
    """(tensors, boxes, [names X]): sharded along every dimension, scales otherwise."""
    tensors, boxes, names = {}, {}, []
    rows = [("gate_up_proj", (3, 70, 3), 0, 1), ("down_proj", (2, 33, 5), 1, 2), ("groups", (2, 5, 9), 2, 0), ("bytes", (1, 20, 2), 3, None),
            ("one", (1, 1, 1), None, 0), ("none", (0, 4, 2), 0, 0), ("long", (1, 700, 4), 1, 1), ("wide", (1, 3, 170), 2, 2)]  # fmt: skip
    for name, shape, dim, scale_dim in rows:
        name = f"model.layers.0.mlp.experts.{name}"
        made = values.mxfp4_tensors(rng, name, *shape)
        tensors.update(made)
        names.append(name)
        for (full, tensor), d in zip(made.items(), (dim, scale_dim)):
            boxes[full] = along(tensor, d)
    boxes["model.layers.0.mlp.experts.gate_up_proj_blocks"] = oracle.boxes_of((3, 70, 3, 16), (2, 2), (1, 2))
    tensors["model.norm.weight"] = values.hard_numbers(rng, "BF16", (90,))
    tensors["model.layers.0.mlp.experts.gate_up_proj_bias"] = values.hard_numbers(rng, "BF16", (3, 70))
    for name in list(tensors)[-2:]:
        boxes[name] = along(tensors[name], 0)
    return tensors, boxes, names


def unpacked(tensors, names, dtype):
    out = {n: t for n, t in tensors.items() if not n.endswith(("_blocks", "_scales"))}
    out.update({n: values.mxfp4(tensors[n + "_blocks"], tensors[n + "_scales"], dtype) for n in names})
    return out


@pytest.mark.parametrize(
    "dtype,np,assign",
    [("F32", None, "band"), ("BF16", 3, "band"), ("F16", 24, "owner")],
)
def test_mxfp4(dirs, rng, make, weld, dtype, np, assign):
    src, out = dirs
    tensors, boxes, names = experts(rng)
    make(src, tensors=tensors, boxes=boxes)
    options = ["--no-sync", "--buffer-size", smallest(np, assign), "--dequantize", WORDS[dtype]] + (["--assign", assign] if np else [])
    ok(weld(src, out, *options, np=np))
    want = unpacked(tensors, names, dtype)
    same(out, welded(want, {n: 1 for n in want}))


@pytest.mark.parametrize("kind", ["index", "mapping", "--fqn-map", "--fqn-map of X", "names"])
def test_x_stands_where_its_blocks_were(dirs, rng, weld, make, tmp_path, kind):
    src, out = dirs
    tensors, boxes, names = experts(rng)
    want = unpacked(tensors, names, "BF16")
    numbers = {n: 4 if n.endswith("_blocks") else 2 if n.endswith("_scales") else 5 for n in tensors}
    files = {n: 4 if n in names else 5 for n in want}
    options = []
    if kind == "index":
        oracle.write_plain(str(src), tensors, oracle.numbered(numbers), oracle.INDEX)
    else:
        make(src, tensors=tensors, boxes=boxes, models=numbers if kind == "names" else None)
    if kind == "mapping":
        oracle.write_json(str(src / ".hf_metadata" / "fqn_to_file_index_mapping.json"), numbers)
    if kind.startswith("--fqn-map"):
        oracle.write_json(str(tmp_path / "map.json"), numbers if kind == "--fqn-map" else files)
        options = ["--fqn-map", tmp_path / "map.json"]
    ok(weld(src, out, "--dequantize=bf16", *options), quiet=kind != "names")  # there the numbers 1 and 3 are missed
    same(out, welded(want, files))


def test_both_kinds_and_a_cast(dirs, rng, make, weld):
    src, out = dirs
    tensors, boxes, names = experts(rng)
    more, more_boxes, pairs = fp8s(rng)
    make(src, tensors={**tensors, **more}, boxes={**boxes, **more_boxes})
    want = {**unpacked(tensors, names, "F16"), **without_scales(more, pairs, "F16")}
    done = set(names) | set(pairs)
    want = {n: t if n in done else values.cast_all({n: t}, "F32")[n] for n, t in want.items()}
    ok(weld(src, out, "--dequantize=fp16", "--cast-dtype=fp32", "--buffer-size=8KiB", np=3))
    same(out, welded(want, {n: 1 for n in want}))


def test_ranks_that_need_parts_of_different_sizes(dirs, rng, make, weld):
    """A part that fits on one rank may not fit in two halves: whole lines of X need fewer bytes of blocks than pieces of them."""
    src, out = dirs
    tensors = {**values.mxfp4_tensors(rng, "x", 3, 86, 6), **values.mxfp4_tensors(rng, "y", 1, 68, 7),
               "w": values.hard_numbers(rng, "BF16", (300, 300)), "q": values.hard_numbers(rng, "F64", (300,))}  # fmt: skip
    make(src, tensors=tensors, boxes={n: along(t, min(1, len(t.shape) - 1)) for n, t in tensors.items()})
    want = unpacked(values.cast_all(tensors, "F16"), ["x", "y"], "BF16")
    for size in (11244, 16000):
        options = ["--overwrite", "--single-file", "--no-sync", "--assign=owner", "--buffer-size", size]
        ok(weld(src, out, *options, "--dequantize=bf16", "--cast-dtype=fp16", np=4))
        same(out, oracle.consolidated(want, {n: oracle.SINGLE for n in want}, None))


# ---- any checkpoint -------------------------------------------------------------------------------


def random_checkpoint(rng, target, cast, block):
    """Some of all kinds; (what is saved, what is written)."""
    saved, written = {}, {}
    for i in range(int(rng.integers(1, 14))):
        name, kind = f"layer.{i}", rng.choice(["float", "scaled", "mxfp4", "other"])
        shape = tuple(int(n) for n in rng.choice([0, 1, 2, 5, 17, 64, 129, 300], 2, p=[0.03, *[0.97 / 7] * 7]))
        if kind == "scaled":
            dtypes = [["F8_E4M3", "F8_E5M2", "I8", "BF16", "F32", "I32"], ["F32", "BF16", "F8_E8M0", "F64"]]
            made = values.scaled_tensors(rng, name, *(str(rng.choice(dtypes[0])), shape, str(rng.choice(dtypes[1])), block))
            written[f"{name}.weight"] = values.scaled(*made.values(), target, block)
        elif kind == "mxfp4":
            made = values.mxfp4_tensors(rng, name, *(int(n) for n in rng.integers(1, [4, 90, 9])))
            written[name] = values.mxfp4(*made.values(), target)
        elif kind == "float":
            made = {name: values.hard_numbers(rng, str(rng.choice(values.FLOATING)), shape[: int(rng.integers(0, 3))])}
            written.update(values.cast_all(made, cast) if cast else made)
        else:
            made = {name: oracle.random_tensor(rng, str(rng.choice(["I64", "U8", "BOOL", "F8_E8M0", "C64"])), shape)}
            written.update(made)
        saved.update(made)
    return saved, written


@pytest.mark.parametrize("number", range(ROUNDS))
def test_round(number, tmp_path):
    rng = numpy.random.default_rng([SEED, 7000 + number])
    target, cast = str(rng.choice(["BF16", "F16", "F32"])), rng.choice([None, *TARGETS])
    block = tuple(int(n) for n in [(128, 128), (64, 64), (1, 32), (300, 7)][rng.integers(4)])
    saved, written = random_checkpoint(rng, target, cast, block)
    mesh = [int(n) for n in rng.integers(1, 4, rng.integers(1, 4))]
    boxes = {}
    for name, t in saved.items():
        boxes[name] = oracle.boxes_of(t.shape, mesh, [int(rng.integers(len(t.shape))) if t.shape and rng.random() < 0.8 else None for _ in mesh])
    oracle.write_sharded(str(tmp_path / "in"), saved, boxes)
    options, files, index = layout(rng, written, None, tmp_path)
    options += ["--no-sync"] + (["--dequantize", WORDS[target], "--block-size", "{}x{}".format(*block)] if set(saved) != set(written) else []) + (["--cast-dtype", WORDS[cast]] if cast else [])
    for np in (None, int(rng.choice([2, 3])), int(rng.choice([3, 5]))):
        how = ["--buffer-size", str(rng.choice(["5KiB", "5500", "12345", "64KiB", "1MiB"]))]
        how += ["--assign", str(rng.choice(["band", "owner"]))] if np else []
        words = f"np {np}: {' '.join(map(str, [*options, *how]))}"
        result = run(["consolidate", *options, *how, tmp_path / "in", tmp_path / "out"], np=np, timeout=180)
        assert result.status == 0 and result.stderr == "", f"{words}: {show(result)}"
        assert oracle.difference(oracle.tree(tmp_path / "out"), oracle.consolidated(written, files, index)) == "", words
        shutil.rmtree(tmp_path / "out")


# ---- memory ---------------------------------------------------------------------------------------


# [(name, dtype, shape)] and the bytes of the output
LARGE = {
    "cast": ([("w", "F32", (4096, 16384))], 4096 * 16384 * 2),
    "fp8": ([("x.weight_scale_inv", "F32", (64, 96)), ("x.weight", "F8_E4M3", (8192, 12288))], 8192 * 12288 * 2),
    "mxfp4": ([("x_blocks", "U8", (2, 4096, 320, 16)), ("x_scales", "U8", (2, 4096, 320))], 2 * 4096 * 320 * 32 * 2),
}


@pytest.mark.parametrize("np,assign", [(None, "band"), (2, "band"), (2, "owner")])
@pytest.mark.parametrize("kind", LARGE)
def test_memory(tmp_path, kind, np, assign):
    """A conversion keeps to the buffer as a copy does, with all that it reads and makes on the way."""
    if (np, assign) != (2, "band") and os.environ.get("LARGE") != "1":
        pytest.skip("LARGE=1 asks for it")
    tensors, size = LARGE[kind]
    entries = [(n, d, s, oracle.nbytes(d, s)) for n, d, s in tensors]
    head = oracle.header(entries, {"format": "pt"})
    sparse(tmp_path / "in" / oracle.SINGLE, head, sum(e[3] for e in entries), {})
    buffer = 1 << 20
    args = ["consolidate", "--no-sync", "--buffer-size", buffer, tmp_path / "in", tmp_path / "out"]
    args += ["--cast-dtype=bf16"] if kind == "cast" else ["--dequantize=bf16"]
    args += ["--assign", assign] if np else []
    try:
        ok(run(args, np=np, prefix=[sys.executable, os.path.join(HERE, "peak.py"), str(tmp_path / "peaks")]))
        assert 0 < (tmp_path / "out" / oracle.SINGLE).stat().st_size - size < 1024
        assert max(peaks(tmp_path / "peaks")) <= buffer + ALLOWANCE, peaks(tmp_path / "peaks")
    finally:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
