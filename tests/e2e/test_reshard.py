"""reshard: shard files for any mesh, byte for byte those of DTensor's rule; and welding them gives what welding the input gives."""

import json
import os
import shlex
import sys
import time

import numpy
import oracle
import pytest
import values
from conftest import SEED, small_tensors
from oracle import INDEX, SINGLE, model_name, shard_name
from resharding import done, numbered, reshard, shard_files, shards, together, weld, words
from runner import HERE, fails, finish, ok, run, show, start, warnings
from test_golden import CASES, GOLDEN
from test_golden import words as golden_words
from test_large import ALLOWANCE, peaks, sparse
from test_random import BUFFERS, checkpoint
from test_safe import snapshot

FILE_MAP, DTYPE_MAP = "fqn_to_file_index_mapping.json", "fqn_to_dtype_mapping.json"
ROUNDS = max(1, int(os.environ.get("ROUNDS", "24")) // 3)
MESHES = [((3,), None), ((2, 2), (0, 1)), ((2, 4), (None, 1)), ((2, 3), (0, 0)), ((7,), (None,)), ((3, 2), (1, None)), ((2, 2, 2), (2, 1, 0))]


def same(out, want):
    assert oracle.difference(shard_files(out), want) == ""


def zoo(rng):
    """Every dtype and some odd shapes: none, one, empty, fewer than the mesh, more dimensions than it has."""
    out = {f"t.{d}": oracle.random_tensor(rng, d, (8, 6, 4)) for d in oracle.DTYPES if oracle.DTYPES[d] % 8 == 0}
    shapes = {"scalar": (), "one": (1,), "two": (2,), "vector": (37,), "none": (0,), "hollow": (3, 0, 2), "row": (1, 11), "column": (11, 1),
              "deep": (2, 3, 4, 5), "wide": (5, 1000)}  # fmt: skip
    out.update({f"s.{n}": oracle.random_tensor(rng, "F32" if i % 2 else "BF16", s) for i, (n, s) in enumerate(shapes.items())})
    return out


@pytest.fixture
def plain(tmp_path, rng):
    """(directory, tensors): one consolidated file of the zoo."""
    tensors = zoo(rng)
    oracle.write_plain(str(tmp_path / "in"), tensors, {n: SINGLE for n in tensors})
    return tmp_path / "in", tensors


# ---- what torch wrote -----------------------------------------------------------------------------


def test_golden(tmp_path):
    """Resharded with the options of the case, then welded without: as welded with them. Only names of --like are in no shard."""

    def one(number_and_case, env):
        number, case = number_and_case
        here, out = os.path.join(GOLDEN, case), tmp_path / case
        if os.path.exists(os.path.join(here, "status")):
            return
        mesh, places = MESHES[number % len(MESHES)]
        options = shlex.split(golden_words(case, "args") or "")
        result = run(["reshard", "-q", *words(mesh, places), *options, "in", out], cwd=here, env=env)
        assert result.status == 0, f"{case}: {show(result)}"
        again = options if case == "like" else []
        run(["consolidate", "-q", *again, out, out / "welded"], cwd=here, env=env)
        got = oracle.tree(out / "welded")
        if case == "single" or case.startswith(("distcp_", "tc_")):
            got.pop(INDEX)
        assert oracle.difference(got, numbered(oracle.tree(os.path.join(here, "out")))) == "", case

    together(one, enumerate(CASES))


# ---- boxes ----------------------------------------------------------------------------------------


def test_boxes(plain, tmp_path):
    src, tensors = plain

    def one(number_and_mesh, env):
        number, (mesh, places) = number_and_mesh
        done(src, tmp_path / str(number), mesh=mesh, placements=places, env=env)
        same(tmp_path / str(number), shards(tensors, mesh, places))

    together(one, enumerate(MESHES))


def test_ranks(plain, tmp_path):
    """--ranks N is --mesh N; ranks that hold nothing have no file."""
    src, tensors = plain

    def one(options, env):
        out = tmp_path / "".join(options)
        ok(run(["reshard", *options, src, out], env=env))
        same(out, shards(tensors, (int(options[1]),)))

    together(one, [["--ranks", str(n)] for n in (1, 2, 3, 5, 16, 24)] + [["--mesh", "5"], ["--mesh", "5", "--placements", "Shard(0)"]])


def test_narrow_dtypes(tmp_path, rng):
    """Elements of less than a byte are cut between bytes, or not at all."""
    tensors = {f"t.{d}": oracle.random_tensor(rng, d, (6, 3, 4)) for d in ("F4", "F6_E2M3", "F6_E3M2")}
    tensors["odd"] = oracle.random_tensor(rng, "F4", (2, 3))
    oracle.write_plain(str(tmp_path / "in"), tensors, {n: SINGLE for n in tensors})
    rule = ["--rule", "odd=replicate,replicate", "--buffer-size", "4KiB"]
    done(tmp_path / "in", tmp_path / "out", *rule, mesh=(2, 2))
    same(tmp_path / "out", shards(tensors, (2, 2), lambda n: (None, None) if n == "odd" else (0, 0)))
    done(tmp_path / "out", tmp_path / "next", *rule, mesh=(3, 1))
    same(tmp_path / "next", shards(tensors, (3, 1), lambda n: (None, None) if n == "odd" else (0, 0)))
    fails(reshard(tmp_path / "in", tmp_path / "bad", mesh=(2,)), 2, "odd", "F4", "within a byte", "--rule")
    fails(reshard(tmp_path / "in", tmp_path / "bad", "--exclude", "odd", mesh=(2,), placements=(2,)), 2, "last dimension")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_random(number, tmp_path):
    """Any sharded checkpoint to any mesh, with any buffer; every fourth time over MPI."""
    rng = numpy.random.default_rng([SEED, 70 + number])
    tensors, models, _ = checkpoint(rng, "large" if number % 4 == 1 else "small", tmp_path / "in")
    mesh = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
    whole = (None,) * len(mesh)
    narrow = {n for n, t in tensors.items() if oracle.DTYPES[t.dtype] % 8}
    places = tuple(None if rng.random() < 0.2 else int(rng.integers(0, 4)) for _ in mesh)
    rules = [w for n in narrow for w in ("--rule", n.translate({ord(c): "?" for c in "[]*\\"}) + "=" + ",".join(["replicate"] * len(mesh)))]
    np = None if number % 4 else 3
    how = ["--no-sync", "--buffer-size", str(rng.choice(BUFFERS)), *(["--assign", str(rng.choice(["band", "owner"]))] if np else [])]
    result = reshard(tmp_path / "in", tmp_path / "out", *rules, *how, mesh=mesh, placements=places, np=np)
    assert result.status == 0, show(result)
    same(tmp_path / "out", shards(tensors, mesh, lambda n: whole if n in narrow else places, models))


# ---- how it is done makes no difference -----------------------------------------------------------


@pytest.mark.parametrize("np, options", [
    (2, ["--assign", "owner", "--buffer-size", "12345"]),
    (5, ["--assign", "band", "--buffer-size", "64KiB"]),
    (None, ["--buffer-size", "4097", "--sync"]),
    (1, ["--buffer-size", "4KiB"]),
])  # fmt: skip
def test_any_ranks_and_buffer(np, options, make, tmp_path, rng):
    tensors = {**zoo(rng), "big": oracle.random_tensor(rng, "BF16", (129, 257)), "cube": oracle.random_tensor(rng, "F32", (20, 30, 41))}
    boxes = {n: oracle.boxes_of(t.shape, (2, 2), [d if d < len(t.shape) else None for d in (1, 0)]) for n, t in tensors.items()}
    models = {n: 1 + i % 2 for i, n in enumerate(tensors)}
    make(tmp_path / "in", tensors=tensors, boxes=boxes, models=models)
    done(tmp_path / "in", tmp_path / "out", *options, mesh=(3, 2), placements=(1, 2), np=np)
    same(tmp_path / "out", shards(tensors, (3, 2), (1, 2), models))


def test_node_local(make, tmp_path):
    ckpt = make(tmp_path / "in", ranks=4)
    for rank in range(3):
        (tmp_path / "node" / str(rank)).mkdir(parents=True)
    for i, path in enumerate(sorted((tmp_path / "in").iterdir())):
        os.link(path, tmp_path / "node" / str(i % 3) / path.name)
    oracle.write(str(tmp_path / "node" / "0" / "config.json"), b"{}")
    oracle.write(str(tmp_path / "node" / "1" / "README.md"), b"not of rank 0")
    args = ["reshard", "--node-local", "--expect-shards", "4", *words((2, 2), (0, 1)), tmp_path / "node" / "@RANK@", tmp_path / "out"]
    ok(run(args, np=3, prefix=["sh", os.path.join(HERE, "by_rank.sh")]))
    assert oracle.difference(oracle.tree(tmp_path / "out"), {**shards(ckpt.tensors, (2, 2), (0, 1)), "config.json": b"{}"}) == ""


def test_node_local_into_the_input_of_a_rank(make, tmp_path):
    """Rank 0 cannot see that OUTPUT_DIR is the INPUT_DIR of another: its shards are not replaced all the same."""
    make(tmp_path / "in", ranks=4)
    for rank in range(2):
        (tmp_path / "node" / str(rank)).mkdir(parents=True)
    for i, path in enumerate(sorted((tmp_path / "in").iterdir())):
        os.link(path, tmp_path / "node" / str(i % 2) / path.name)
    before = snapshot(tmp_path / "node" / "1")
    args = ["reshard", "--overwrite", "--node-local", "--expect-shards", "4", *words((2,)), tmp_path / "node" / "@RANK@", tmp_path / "node" / "1"]
    fails(run(args, np=2, prefix=["sh", os.path.join(HERE, "by_rank.sh")]), 2, shard_name(2), "is a file of the input")
    assert snapshot(tmp_path / "node" / "1") == before


# ---- rules ----------------------------------------------------------------------------------------


def test_rules(tmp_path, rng):
    names = ["model.embed.weight", "model.q_proj.weight", "model.q_proj.bias", "a=b", "lm_head.weight"]
    tensors = {n: oracle.random_tensor(rng, "F16", (6,) if n.endswith("bias") else (6, 4)) for n in names}
    oracle.write_plain(str(tmp_path / "in"), tensors, {n: SINGLE for n in tensors})
    rules = ["--rule", "*q_proj*=shard1,replicate", "--rule", "*.weight=replicate,shard0", "--rule", "a=b=Shard(1),Shard(0)", "--rule=*bias=shard0,shard0"]
    result = reshard(tmp_path / "in", tmp_path / "out", *rules, mesh=(2, 2), placements=(0, 1))
    assert result.status == 0 and warnings(result) == ["shardweld: warning: --rule '*bias=shard0,shard0' matches no tensor that is left to it"], show(result)
    want = {"model.embed.weight": (None, 0), "lm_head.weight": (None, 0), "model.q_proj.weight": (1, None), "model.q_proj.bias": (1, None), "a=b": (1, 0)}
    same(tmp_path / "out", shards(tensors, (2, 2), want.get))
    # The input's names, not the output's.
    done(tmp_path / "in", tmp_path / "renamed", "--rename", "model.=new.", "--rule", "model.*=shard1", "--rule", "a=b=replicate", mesh=(2,))
    renamed = {n.replace("model.", "new."): t for n, t in tensors.items()}
    same(tmp_path / "renamed", shards(renamed, (2,), lambda n: (1,) if n.startswith("new.") else (None,) if n == "a=b" else (0,)))


# ---- wrong usage ----------------------------------------------------------------------------------


# What words are no meshes, placements and options is in unit/test_mesh and unit/test_cmd_opts.
WRONG = [
    ([], "--mesh or --ranks"),
    (["--mesh", "0"], "no mesh"),
    (["--ranks", "1000001"], "too large"),
    (["--mesh", "2", "--placements", "shard"], "is no placement"),
    (["--mesh", "2", "--rule", "*=shard0,shard1"], "2 placements, the mesh 1 dimension"),
    (["--mesh", "2", "--cast-dtype", "int8"], "cast-dtype"),
    (["--mesh", "2", "--buffer-size", "100"], "4096"),
    (["--mesh", "2", "--verify"], "--verify"),
]


def test_wrong_usage(make, dirs):
    make(dirs[0])
    together(lambda case, env: fails(run(["reshard", *case[0], *dirs], env=env), 2, case[1]), WRONG)
    assert not dirs[1].exists()


# ---- input ----------------------------------------------------------------------------------------


def test_consolidated_inputs(tmp_path, rng):
    """Numbers of models are the input's; where it has none they are in the order of its files."""
    tensors = small_tensors(rng)
    by = {"one": [n for i, n in enumerate(tensors) if i % 2], "two": [n for i, n in enumerate(tensors) if i % 2 == 0]}

    def case(name, first, second, index, numbers, of):
        files = {**{n: first for n in by["one"]}, **{n: second for n in by["two"]}}
        oracle.write_plain(str(tmp_path / name), tensors, files, index)
        done(tmp_path / name, tmp_path / f"{name}.out", mesh=(2, 2), placements=(0, 1))
        models = {n: numbers[0] if n in by["one"] else numbers[1] for n in tensors}
        same(tmp_path / f"{name}.out", shards(tensors, (2, 2), (0, 1), models, of))
        assert sorted(os.listdir(tmp_path / f"{name}.out")) == sorted(shard_files(tmp_path / f"{name}.out"))

    case("index", model_name(1, 2), model_name(2, 2), INDEX, (1, 2), 2)
    case("gaps", model_name(2, 5), model_name(4, 5), INDEX, (2, 4), 5)
    case("diffusers", "diffusion_pytorch_model-00001-of-00003.safetensors", "diffusion_pytorch_model-00003-of-00003.safetensors",
         "diffusion_pytorch_model.safetensors.index.json", (1, 3), 3)  # fmt: skip
    case("names", "b.safetensors", "sub/a.safetensors", INDEX, (1, 2), 2)
    case("single", SINGLE, SINGLE, None, (1, 1), 1)


def damage(kind, src):
    victim = src / shard_name(2)
    if kind == "gap":
        victim.unlink()
    elif kind == "cut":
        os.truncate(victim, victim.stat().st_size - 1)
    elif kind == "header":
        victim.write_bytes(b"\x10" + b"\0" * 7 + b"{" + b" " * 15)
    elif kind == "overlap":
        t = oracle.Tensor("F32", (4, 5), bytes(80))
        oracle.write_shard(str(src / shard_name(9)), {"model.layers.0.q.weight": (t, oracle.Box((1, 0), (3, 5)))})


@pytest.mark.parametrize("kind, says", [("gap", "model."), ("cut", shard_name(2)), ("header", shard_name(2)), ("overlap", "_StridedShard"), ("expect", "shard")])
def test_bad_input(kind, says, make, dirs):
    make(dirs[0])
    damage(kind, dirs[0])
    fails(reshard(*dirs, *(["--expect-shards", "5"] if kind == "expect" else [])), 3, says)
    assert sorted(os.listdir(dirs[0].parent)) == ["in"]


def test_no_input(tmp_path, make):
    for src, status in (("missing", 3), ("file", 3), ("empty", 3)):
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "empty").mkdir(exist_ok=True)
        fails(reshard(tmp_path / src, tmp_path / "deep" / "out"), status, str(tmp_path / src))
        assert sorted(os.listdir(tmp_path)) == ["empty", "file"], src
    make(tmp_path / "in")
    fails(reshard(tmp_path / "in", tmp_path / "out", "--exclude", "*"), 2)
    assert not (tmp_path / "out").exists()


# ---- layout ---------------------------------------------------------------------------------------


def test_layouts(tmp_path, rng, make):
    ckpt = make(tmp_path / "in", models={n: 1 + i % 3 for i, n in enumerate(small_tensors(rng))})
    numbers = {n: (7, 2)[i % 2] for i, n in enumerate(ckpt.tensors)}
    oracle.write_json(str(tmp_path / "map.json"), {**numbers, "tied": 9})
    oracle.write_json(str(tmp_path / "like.index.json"), {"weight_map": {n: f"{j}.safetensors" for n, j in numbers.items()}})
    sizes, _ = oracle.by_size(ckpt.tensors, 100)
    order = sorted(set(sizes.values()))
    for name, options, models, of in (
        ("map", ["--fqn-map", tmp_path / "map.json"], numbers, 9),
        ("like", ["--like", tmp_path / "like.index.json"], {n: 1 if j == 2 else 2 for n, j in numbers.items()}, 2),
        ("size", ["--max-shard-size", "100"], {n: 1 + order.index(f) for n, f in sizes.items()}, len(order)),
        ("single", ["--single-file"], {n: 1 for n in numbers}, 1),
    ):
        result = reshard(tmp_path / "in", tmp_path / name, *options, mesh=(2,))
        assert result.status == 0 and len(warnings(result)) == (name == "map"), show(result)
        same(tmp_path / name, shards(ckpt.tensors, (2,), None, models, of))
    missing = dict(list(numbers.items())[1:])
    oracle.write_json(str(tmp_path / "map.json"), missing)
    fails(reshard(tmp_path / "in", tmp_path / "bad", "--fqn-map", tmp_path / "map.json"), 3, list(numbers)[0])
    fails(reshard(tmp_path / "in", tmp_path / "bad", "--fqn-map", tmp_path / "none.json"), 2, "none.json")


# ---- names and values -----------------------------------------------------------------------------


def test_names(tmp_path, make):
    ckpt = make(tmp_path / "in")
    options = ["--include", "model.*", "--exclude", "*.mask", "--strip-prefix", "model.", "--rename", "layers.=h."]
    done(tmp_path / "in", tmp_path / "out", *options, mesh=(2, 2))
    want = {n.removeprefix("model.").replace("layers.", "h."): t for n, t in ckpt.tensors.items() if not n.endswith(".mask")}
    same(tmp_path / "out", shards(want, (2, 2)))
    fails(reshard(tmp_path / "in", tmp_path / "bad", "--rename", "model.layers.0.=model.layers.1."), 2, "model.layers.1.q.weight")
    assert not (tmp_path / "bad").exists()


def quantized(rng):
    """FP8 and MXFP4 with their scales, and floats of every kind."""
    out = {f"f.{d}": values.hard_numbers(rng, d, (37, 50)) for d in values.FLOATING}
    out.update(values.scaled_tensors(rng, "model.q", "F8_E4M3", (300, 260)))
    out.update(values.scaled_tensors(rng, "model.k", "F8_E5M2", (129, 40)))
    out.update(values.mxfp4_tensors(rng, "experts.up", 3, 70, 4))
    return out


def dequantized(tensors, dtype):
    out = {n: t for n, t in tensors.items() if n.startswith("f.")}
    for n in ("model.q", "model.k"):
        out[f"{n}.weight"] = values.scaled(tensors[f"{n}.weight"], tensors[f"{n}.weight_scale_inv"], dtype)
    out["experts.up"] = values.mxfp4(tensors["experts.up_blocks"], tensors["experts.up_scales"], dtype)
    return out


@pytest.mark.parametrize("mesh, places, how", [((4,), (1,), ["--buffer-size", "4KiB"]), ((3, 2), (2, 1), ["--buffer-size", "64KiB"])])
def test_values(mesh, places, how, tmp_path, rng, make):
    tensors = quantized(rng)
    boxes = {n: oracle.boxes_of(t.shape, (2, 2), (1, 0)) for n, t in tensors.items()}
    make(tmp_path / "in", tensors=tensors, boxes=boxes)
    config = '{"torch_dtype": "float8", "dtype": "float32", "quantization_config": {"a": 1}, "n": 1}'
    oracle.write(str(tmp_path / "in" / "config.json"), config)
    done(tmp_path / "in", tmp_path / "cast", "--cast-dtype", "bf16", *how, mesh=mesh, placements=places)
    same(tmp_path / "cast", shards(values.cast_all(tensors, "BF16"), mesh, places))
    assert json.loads((tmp_path / "cast" / "config.json").read_text())["dtype"] == "bfloat16"
    done(tmp_path / "in", tmp_path / "out", "--dequantize", "fp16", *how, mesh=mesh, placements=places, quiet=False)
    same(tmp_path / "out", shards(dequantized(tensors, "F16"), mesh, places))
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    # Resharding what was welded with the option is the same.
    weld(tmp_path / "in", tmp_path / "welded", "--dequantize", "fp16")
    done(tmp_path / "welded", tmp_path / "again", mesh=mesh, placements=places)
    assert oracle.difference(oracle.tree(tmp_path / "again"), oracle.tree(tmp_path / "out")) == ""


@pytest.mark.parametrize("assign", ["band", "owner"])
def test_values_over_mpi(assign, tmp_path, rng, make):
    tensors = quantized(rng)
    make(tmp_path / "in", tensors=tensors, boxes={n: oracle.boxes_of(t.shape, (3,), (0,)) for n, t in tensors.items()})
    options = ["--dequantize", "bf16", "--cast-dtype", "fp16", "--assign", assign, "--buffer-size", "16KiB"]
    done(tmp_path / "in", tmp_path / "out", *options, mesh=(2, 2), placements=(1, 0), np=3)
    want = dequantized(tensors, "BF16")
    same(tmp_path / "out", shards({n: values.cast(t, "F16") if n.startswith("f.") else t for n, t in want.items()}, (2, 2), (1, 0)))


# ---- .hf_metadata and side files ------------------------------------------------------------------


def with_metadata(src, rng, make, dtypes, files=None):
    """Floats in one model, which .hf_metadata splits in two; a tied weight has the highest number."""
    tensors = {n: values.hard_numbers(rng, d, (9, 6)) for n, d in {"m.a": "F16", "m.b": "BF16", "m.c": "F32", "x.d": "F64"}.items()}
    tensors["x.e"] = oracle.random_tensor(rng, "I64", (4, 2))
    make(src, tensors=tensors)
    files = {"m.a": 1, "m.b": 1, "m.c": 2, "x.d": 2, "x.e": 1, "tied": 3} if files is None else files
    oracle.write(str(src / ".hf_metadata" / FILE_MAP), json.dumps(files, indent=1))
    oracle.write(str(src / ".hf_metadata" / DTYPE_MAP), json.dumps(dtypes))
    oracle.write(str(src / ".hf_metadata" / "config.json"), b'{"torch_dtype":  "float32"}')
    oracle.write(str(src / ".hf_metadata" / "sub" / "chat.jinja"), b"hello")
    oracle.write(str(src / "README.md"), b"at the top")
    return tensors


DTYPES = {"m.a": "BF16", "m.b": "torch.float32", "m.c": "float32", "x.d": "F16", "x.e": "I64", "tied": "BF16"}


def test_metadata_comes_along(tmp_path, rng, make):
    """As it is, and what it says of dtypes is not done yet: whoever welds the new shards does it."""
    src, out = tmp_path / "in", tmp_path / "out"
    tensors = with_metadata(src, rng, make, DTYPES)
    result = reshard(src, out, "--cast-dtype", "none", mesh=(2, 2), placements=(0, 1))
    assert result.status == 0 and len(warnings(result)) == 1 and "tied" in result.stderr, show(result)
    models = {"m.a": 1, "m.b": 1, "m.c": 2, "x.d": 2, "x.e": 1}
    want = shards(tensors, (2, 2), (0, 1), models, 3)
    want.update({n: data for n, data in oracle.tree(src).items() if not n.startswith("shard-")})
    assert len(want) == 13
    assert oracle.difference(oracle.tree(out), want) == ""
    assert oracle.difference(weld(out, tmp_path / "b"), weld(src, tmp_path / "a")) == ""


UPDATES = [
    (["--rename", "m.=new.", "--strip-prefix", "x."], DTYPES),
    (["--rename", "m.b=tied"], DTYPES),
    (["--exclude", "m.c", "--exclude", "x.*"], DTYPES),
    (["--include", "m.*", "--cast-dtype", "fp16"], DTYPES),
    (["--cast-dtype", "fp16"], DTYPES),  # m.a is F16 already
    (["--cast-dtype", "bf16"], {n: "F32" for n in ("m.a", "m.b", "m.c", "x.d")}),  # m.b is BF16 already
    (["--cast-dtype", "fp32"], {"m.a": "F8_E4M3", "m.c": "BF16", "x.e": "F32"}),
    (["--max-shard-size", "120"], DTYPES),
    (["--single-file"], DTYPES),
    (["--fqn-map", "@"], DTYPES),
]  # fmt: skip


def test_metadata_is_brought_up_to_date(tmp_path, make):
    """Welding the new shards is welding the old ones with the options."""

    def one(number, env):
        options, dtypes = UPDATES[number]
        base = tmp_path / str(number)
        src, out = base / "in", base / "out"
        with_metadata(src, numpy.random.default_rng(number), make, dtypes)
        oracle.write_json(str(base / "map"), {"m.a": 4, "m.b": 2, "m.c": 4, "x.d": 4, "x.e": 1, "other": 6})
        words = [str(base / "map") if o == "@" else o for o in options]
        done(src, out, "-q", *words, mesh=(2,), placements=(1,), env=env)
        old, new = weld(src, base / "a", *words, env=env), weld(out, base / "b", env=env)
        if "--single-file" in options:
            new.pop(INDEX)
        assert oracle.difference(new, numbered(old)) == "", options
        assert json.loads((out / ".hf_metadata" / "config.json").read_text()) == {"torch_dtype": json.loads(old["config.json"])["torch_dtype"]}

    together(one, range(len(UPDATES)))


def test_metadata_of_quantized_tensors(tmp_path, rng, make):
    src, out = tmp_path / "in", tmp_path / "out"
    tensors = quantized(rng)
    make(src, tensors=tensors)
    numbers = {n: 2 if "scale" in n else 1 for n in tensors}
    oracle.write_json(str(src / ".hf_metadata" / FILE_MAP), numbers)
    dtypes = {n: "F32" if n == "f.F16" else "BF16" if n.startswith("f.") else t.dtype for n, t in tensors.items()}
    oracle.write_json(str(src / ".hf_metadata" / DTYPE_MAP), dtypes)
    for i, options in enumerate((["--dequantize", "bf16"], ["--dequantize", "fp16", "--cast-dtype", "fp32"])):
        done(src, tmp_path / f"out{i}", "-q", *options, mesh=(3,), placements=(1,))
        assert oracle.difference(weld(tmp_path / f"out{i}", tmp_path / f"b{i}"), weld(src, tmp_path / f"a{i}", *options)) == ""
    assert not out.exists()


def test_no_assets_leaves_no_mapping_of_other_shards(rng, make, sharded):
    ckpt, src, out = sharded
    with_metadata(out, rng, make, DTYPES)
    stay = {n: data for n, data in oracle.tree(out).items() if not n.startswith("shard-") and not n.endswith("mapping.json")}
    done(src, out, "-q", "--no-assets", "--overwrite", mesh=(2,))
    assert oracle.difference(oracle.tree(out), {**shards(ckpt.tensors, (2,)), **stay}) == "" and len(stay) == 3


def test_side_files(sharded):
    """Those at the top that are known and those of .hf_metadata go to the same places; weights and hidden ones do not come along."""
    ckpt, src, out = sharded
    come = {"config.json": b"{}", "tokenizer.model": b"t", "a b.py": b"p", "LICENSE": b"l", ".hf_metadata/generation_config.json": b"g",
            ".hf_metadata/deep/er/x.unknown": b"x"}  # fmt: skip
    stay = {"unknown.xyz": b"", "pytorch_model.bin": b"", "other.safetensors": b"", INDEX: b"{}", ".hidden.json": b"", "sub/config.json": b"",
            ".hf_metadata/.hidden": b"", ".hf_metadata/model.safetensors": b"", ".hf_metadata/x.index.json": b""}  # fmt: skip
    for name, data in {**come, **stay}.items():
        oracle.write(str(src / name), data)
    result = done(src, out, mesh=(2,), quiet=False)
    assert [line.split(": ")[2] for line in warnings(result)] == ["other.safetensors"], show(result)
    assert oracle.difference(oracle.tree(out), {**shards(ckpt.tensors, (2,)), **come}) == ""


# ---- OUTPUT_DIR -----------------------------------------------------------------------------------


def test_shards_are_not_replaced_unasked(tmp_path, make):
    ckpt = make(tmp_path / "in")
    make(tmp_path / "out", ranks=7)
    before = snapshot(tmp_path / "out")
    fails(reshard(tmp_path / "in", tmp_path / "out"), 2, "--overwrite", shard_name(1))
    assert snapshot(tmp_path / "out") == before
    done(tmp_path / "in", tmp_path / "out", "--overwrite", mesh=(3,))
    assert oracle.difference(oracle.tree(tmp_path / "out"), shards(ckpt.tensors, (3,))) == ""


def test_overwrite_removes_exactly_the_shards(sharded):
    ckpt, src, out = sharded
    new = {"config.json": b"new", ".hf_metadata/config.json": b"newer"}
    for name, data in new.items():
        oracle.write(str(src / name), data)
    gone = [shard_name(1), shard_name(9), shard_name(4, 2, 3), shard_name(123456)]
    mine = {n: n.encode() for n in (SINGLE, model_name(1, 2), INDEX, "notes.txt", "shard-1-model-x.safetensors", "tokenizer.json",
                                    "sub/" + shard_name(1), ".hf_metadata/other.json", ".hidden")}  # fmt: skip
    for name in [*gone, *mine, *new]:
        oracle.write(str(out / name), name.encode())
    said = warnings(reshard(src, out, "--overwrite", mesh=(2,), np=2))
    assert len(said) == 1 and INDEX in said[0] and "stays as it is" in said[0], said
    assert oracle.difference(oracle.tree(out), {**shards(ckpt.tensors, (2,)), **mine, **new}) == ""


def test_mappings_of_other_shards_go_with_them(tmp_path, rng, make, sharded):
    """Else the next weld would believe them."""
    ckpt, src, out = sharded
    with_metadata(out, rng, make, DTYPES)
    done(src, out, "--overwrite", mesh=(2,))
    names = set(oracle.tree(out)) - set(shard_files(out))
    assert names == {".hf_metadata/config.json", ".hf_metadata/sub/chat.jinja", "README.md"}
    got = weld(out, tmp_path / "b", "--no-assets")
    assert oracle.difference(got, ckpt.expect()) == ""
    # Where no shards are replaced they are somebody's, and stay.
    oracle.write_json(str(tmp_path / "other" / ".hf_metadata" / DTYPE_MAP), {})
    result = reshard(src, tmp_path / "other")
    assert result.status == 0 and len(warnings(result)) == 1 and DTYPE_MAP in result.stderr, show(result)
    assert (tmp_path / "other" / ".hf_metadata" / DTYPE_MAP).exists()


def test_a_mapping_that_says_nothing_any_more_is_left_out(tmp_path, rng, make):
    """The largest number would be another n; the names of the shards tell the right one."""
    src, out = tmp_path / "in", tmp_path / "out"
    with_metadata(src, rng, make, {}, {"m.a": 1, "m.b": 1, "m.c": 2, "x.d": 3, "x.e": 1})
    with_metadata(out, rng, make, {})
    options = ["--exclude", "x.d"]
    done(src, out, "--overwrite", *options, mesh=(2,))
    assert not (out / ".hf_metadata" / FILE_MAP).exists()
    assert (out / ".hf_metadata" / DTYPE_MAP).exists()
    assert oracle.difference(weld(out, tmp_path / "b"), weld(src, tmp_path / "a", *options)) == ""


@pytest.mark.parametrize("spelling", ["same", "dots", "link"])
def test_the_inputs_own_directory(tmp_path, sharded, spelling):
    _, src, _ = sharded
    before = snapshot(src)
    os.symlink(src, tmp_path / "link")
    out = {"same": src, "dots": src / ".." / "in" / ".", "link": tmp_path / "link"}[spelling]
    fails(reshard(src, out, "--overwrite"), 2, "INPUT_DIR")
    assert snapshot(src) == before


def test_one_inside_the_other(tmp_path, make):
    ckpt = make(tmp_path / "in")
    done(tmp_path / "in", tmp_path / "in" / "new" / "shards", mesh=(2,))
    same(tmp_path / "in" / "new" / "shards", shards(ckpt.tensors, (2,)))
    assert sorted(os.listdir(tmp_path / "in")) == ["new", *sorted(shard_name(i) for i in (1, 2, 3))]
    make(tmp_path / "out" / "sharded")
    before = snapshot(tmp_path / "out" / "sharded")
    done(tmp_path / "out" / "sharded", tmp_path / "out", mesh=(2,))
    want = shards(make(tmp_path / "x").tensors, (2,))
    assert sorted(os.listdir(tmp_path / "out")) == [*sorted(want), "sharded"]
    assert snapshot(tmp_path / "out" / "sharded") == before
    done(tmp_path / "out" / "sharded", tmp_path / "out", "--overwrite", mesh=(3,))
    assert snapshot(tmp_path / "out" / "sharded") == before


@pytest.mark.parametrize("how", ["hard", "of the input"])
def test_old_shards_that_are_the_inputs(tmp_path, sharded, how):
    """Hard links of them, or what its links lead to, would be lost with OUTPUT_DIR's old shards."""
    _, src, out = sharded
    out.mkdir()
    if how == "hard":
        os.link(src / shard_name(3), out / shard_name(8))
    else:
        os.rename(src / shard_name(3), out / shard_name(8))
        os.symlink(out / shard_name(8), src / shard_name(3))
    before = snapshot(tmp_path)
    fails(reshard(src, out, "--overwrite"), 2, shard_name(8), "input")
    now = snapshot(tmp_path)
    assert {k: v[3] for k, v in now.items()} == {k: v[3] for k, v in before.items()}


def test_links_to_the_input_may_go(sharded):
    ckpt, src, out = sharded
    out.mkdir()
    os.symlink(src / shard_name(1), out / shard_name(1))
    os.symlink("nowhere", out / shard_name(5))
    before = snapshot(src)
    done(src, out, "--overwrite", mesh=(2,))
    assert oracle.difference(oracle.tree(out), shards(ckpt.tensors, (2,))) == ""
    assert not os.path.islink(out / shard_name(1)) and snapshot(src) == before


def test_metadata_that_both_share(tmp_path, rng, make):
    """One of them is a link to the other's: nothing of the input is taken away."""
    src, out = tmp_path / "in", tmp_path / "out"
    with_metadata(out, rng, make, DTYPES)
    make(src)
    os.symlink(out / ".hf_metadata", src / ".hf_metadata")
    before = snapshot(out / ".hf_metadata")
    result = reshard(src, out, "--overwrite", "--single-file", "--rename", "model.=m.")
    assert result.status == 0 and any(DTYPE_MAP in w for w in warnings(result)), show(result)
    assert snapshot(out / ".hf_metadata") == before


def test_odd_places(tmp_path, make):
    ckpt = make(tmp_path / "in")
    (tmp_path / "file").write_bytes(b"x")
    fails(reshard(tmp_path / "in", tmp_path / "file"), 4, "file")
    (tmp_path / "taken" / shard_name(1)).mkdir(parents=True)
    fails(reshard(tmp_path / "in", tmp_path / "taken", "--overwrite"), 2, shard_name(1))
    assert os.listdir(tmp_path / "taken") == [shard_name(1)]
    (tmp_path / "other" / shard_name(9) / "sub").mkdir(parents=True)
    fails(reshard(tmp_path / "in", tmp_path / "other", "--overwrite"), 2, shard_name(9), "neither a file nor a link")
    assert os.listdir(tmp_path / "other" / shard_name(9)) == ["sub"]
    os.symlink(tmp_path / "there", tmp_path / "dangling")
    assert reshard(tmp_path / "in", tmp_path / "dangling").status in (2, 4)
    assert not (tmp_path / "there").exists()
    done("in", "out/", mesh=(2,), cwd=tmp_path)
    same(tmp_path / "out", shards(ckpt.tensors, (2,)))
    (tmp_path / "here").mkdir()
    done("../in", ".", mesh=(2,), cwd=tmp_path / "here")
    same(tmp_path / "here", shards(ckpt.tensors, (2,)))


def test_it_appears_by_one_rename(tmp_path, rng):
    """A missing OUTPUT_DIR is not there, and then it is whole. Beside it there is one hidden directory till then."""
    tensors = {"w": oracle.random_tensor(rng, "U8", (400_000, 64))}
    oracle.write_plain(str(tmp_path / "in"), tensors, {"w": SINGLE})
    oracle.write(str(tmp_path / "in" / "config.json"), b"{}")
    process = start(["reshard", "--no-sync", "--buffer-size", "64KiB", *words((8,), (1,)), tmp_path / "in", tmp_path / "parent" / "out"])
    seen, hidden = set(), set()
    while process.poll() is None:
        try:
            hidden |= set(os.listdir(tmp_path / "parent"))
            seen.add(tuple(sorted(os.listdir(tmp_path / "parent" / "out"))))
        except OSError:
            pass
        time.sleep(0.001)
    ok(finish(process))
    whole = ("config.json", *(shard_name(i) for i in range(1, 9)))
    assert seen <= {whole} and ".out.shardweld-new" in hidden, (seen, hidden)
    assert os.listdir(tmp_path / "parent") == ["out"] and tuple(sorted(os.listdir(tmp_path / "parent" / "out"))) == whole


# ---- messages -------------------------------------------------------------------------------------


def test_dry_run(tmp_path, make, sharded):
    ckpt, src, out = sharded
    want = shards(ckpt.tensors, (2, 2))
    before = snapshot(tmp_path)
    result = reshard(src, out, "-n", mesh=(2, 2), np=2)
    assert result.status == 0 and result.stderr == "", show(result)
    for name, data in want.items():
        assert any(name in line and str(len(data)) in line for line in result.stdout.splitlines()), show(result)
    assert INDEX not in result.stdout
    assert snapshot(tmp_path) == before
    make(out)
    before = snapshot(tmp_path)
    result = reshard(src, out, "--dry-run")
    assert result.status == 0 and len(warnings(result)) == 1 and "--overwrite" in result.stderr, show(result)
    assert snapshot(tmp_path) == before


def test_report(tmp_path, sharded):
    ckpt, src, out = sharded
    oracle.write(str(src / "config.json"), b"{}")
    result = reshard(src, out, "-v", "--report", tmp_path / "report", "--rule", "*.mask=replicate", mesh=(3,), np=2)
    assert result.status == 0 and "3 files" in result.stdout + result.stderr, show(result)
    got, want = json.loads((tmp_path / "report").read_text()), shards(ckpt.tensors, (3,), lambda n: (None,) if n.endswith("mask") else (0,))
    assert got["schema"] == 1 and got["command"] == "reshard" and got["status"] == 0 and got["code"] == "SW_OK"
    assert {f["name"]: f["size"] for f in got["files"]} == {n: len(data) for n, data in want.items()}
    assert sum(f["tensors"] for f in got["files"]) == sum(data[: data.index(b"}}")].count(b'"dtype"') or data.count(b'"dtype"') for data in want.values())
    assert got["bytes_written"] == sum(map(len, want.values())) and got["shard_files"] == 3 and got["tensors"] == len(ckpt.tensors)
    assert got["bytes"] == sum(len(t.data) for t in ckpt.tensors.values()) and got["index"] is None and got["assets"] == ["config.json"]
    assert got["ranks"] == 2 and got["recovered"] is False and got["io"] and got["assign"] in ("band", "owner")
    assert got["options"]["mesh"] == "3" and got["options"]["rule"] == ["*.mask=replicate"] and got["options"]["ranks"] is None
    assert "shardweld: done, " in reshard(src, out, "--overwrite", "--progress", "always").stderr
    run(["reshard", "--ranks", "4", "--report", tmp_path / "failed", src, out])
    got = json.loads((tmp_path / "failed").read_text())
    assert got["command"] == "reshard" and got["status"] == 2 and "--overwrite" in got["message"] and got["options"]["ranks"] == 4


# ---- the system fails -----------------------------------------------------------------------------


def test_no_space(tmp_path):
    """Noticed before the first byte: the tensor is a hole of 8 TiB."""
    size = 1 << 43
    head = oracle.header([("w", "F64", (1 << 20, 1 << 20), size)], {"format": "pt"})
    try:
        sparse(tmp_path / "in" / SINGLE, head, size, {})
    except OSError:
        pytest.skip("the file system holds no sparse file of 8 TiB")
    result = reshard(tmp_path / "in", tmp_path / "out", "-n", mesh=(1000, 8), placements=(0, 1))
    assert result.status == 0 and "8000 files" in result.stdout, show(result)[-500:]
    fails(reshard(tmp_path / "in", tmp_path / "out", mesh=(1000, 8), placements=(0, 1)), 4, "space")
    assert os.listdir(tmp_path) == ["in"]


def test_a_file_size_limit(tmp_path, make, rng):
    make(tmp_path / "in", tensors={"w": oracle.random_tensor(rng, "U8", (1000, 300))})
    message = fails(reshard(tmp_path / "in", tmp_path / "out", prefix=["bash", "-c", 'ulimit -f 40; exec "$@"', "bash"]), 4, "file too large")
    assert shard_name(1) in message or shard_name(2) in message
    assert os.listdir(tmp_path) == ["in"]


# ---- size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("np, options", [(None, []), (None, ["--cast-dtype", "bf16"]), (2, ["--assign", "owner"])])
def test_memory(tmp_path, np, options):
    """Rows to columns of a tensor of 96 MiB of holes: a rank takes its buffer and no more."""
    shape, begin = (4096, 6144), [0, 1000, 4096]
    for i, (lo, hi) in enumerate(zip(begin, begin[1:]), 1):
        size = (hi - lo) * shape[1] * 4
        head = oracle.header([("w", "F32", (hi - lo, shape[1]), size)], oracle.shard_metadata({"w": (lo, 0)}))
        sparse(tmp_path / "in" / shard_name(i), head, size, {})
    args = ["--no-sync", "--buffer-size", "1MiB", *options]
    prefix = [sys.executable, os.path.join(HERE, "peak.py"), str(tmp_path / "peaks")]
    done(tmp_path / "in", tmp_path / "out", *args, mesh=(2, 3), placements=(1, 1), prefix=prefix, np=np)
    assert max(peaks(tmp_path / "peaks")) <= (1 << 20) + ALLOWANCE, peaks(tmp_path / "peaks")
    assert sum(os.path.getsize(p) for p in (tmp_path / "out").iterdir()) > 4096 * 6144 * (2 if "bf16" in options else 4)


def test_many_ranks(tmp_path, rng):
    tensors = {f"layers.{i}.w": oracle.random_tensor(rng, "BF16", (4000, 4)) for i in range(50)}
    oracle.write_plain(str(tmp_path / "in"), tensors, {n: SINGLE for n in tensors})
    begin = time.monotonic()
    done(tmp_path / "in", tmp_path / "out", "--no-sync", mesh=(4000,))
    seconds = time.monotonic() - begin
    begin, checked = time.monotonic(), range(0, 4000, 97)
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == [shard_name(i) for i in range(1, 4001)]
    for rank in checked:
        row = {n: (t, oracle.Box((rank, 0), (1, 4))) for n, t in sorted(tensors.items())}
        oracle.write_shard(str(tmp_path / "want"), row, oracle.own_metadata(row, names))
        assert (tmp_path / "want").read_bytes() == (tmp_path / "out" / names[rank]).read_bytes()
    # Five times what Python takes to write and read each of them.
    assert seconds <= 5 * (time.monotonic() - begin) * 4000 / len(checked)
