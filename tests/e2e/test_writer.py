"""Saving from memory over MPI: any tensors, any mesh, memory laid out in any way, any number of ranks: the bytes of the reference, and
those that welding the shards gives."""

import json
import os

import numpy as np
import oracle
import pytest
import runner
from conftest import SEED
from oracle import same
from runner import ok
from saving import describe, edit, refused, save, saved

ROUNDS = max(2, int(os.environ.get("ROUNDS", "24")) // 4)
RANKS = [1, 2, 3, 5]
WIDE = [d for d, bits in oracle.DTYPES.items() if bits % 8 == 0]
BUFFERS = ["4KiB", "12345", "100KB", "16MiB"]


def random_tensors(rng):
    out = {}
    for i in range(int(rng.integers(1, 20))):
        shape = [int(n) for n in rng.choice([0, 1, 2, 3, 5, 7, 8, 16, 33], rng.integers(0, 5), p=[0.02, *[0.98 / 8] * 8])]
        out[f"layer.{i}.é" if i % 5 == 0 else f"layer.{i}.weight"] = oracle.random_tensor(rng, rng.choice(WIDE), shape)
    out["long"] = oracle.random_tensor(rng, "BF16", (int(rng.integers(1, 300)), int(rng.integers(1, 2000))))
    out["fp4"] = oracle.random_tensor(rng, "F4", (int(rng.integers(1, 9)), 16))
    return out


def mesh_of(rng, np):
    return [np] if np < 4 or rng.random() < 0.5 else [2, np // 2] if np % 2 == 0 else [np, 1]


def random_boxes(rng, tensors, np):
    """Each tensor is sharded or replicated over a mesh of its own; the ranks of one are no list of another's."""
    out = {}
    for name, t in tensors.items():
        mesh = mesh_of(rng, np)
        dims = list(range(len(t.shape))) if t.dtype != "F4" else [0]
        out[name] = oracle.boxes_of(t.shape, mesh, [int(rng.choice(dims)) if dims and rng.random() < 0.8 else None for _ in mesh])
    return out


def expected(tensors, numbers=None):
    return oracle.consolidated(tensors, oracle.numbered(numbers or {n: 1 for n in tensors}))


@pytest.mark.parametrize("number, np", [(i, RANKS[i % len(RANKS)]) for i in range(ROUNDS)])
def test_random(tmp_path, number, np):
    rng = numpy_rng(number, np)
    tensors = random_tensors(rng)
    boxes = random_boxes(rng, tensors, np)
    spec = describe(str(tmp_path / "memory"), tensors, boxes, rng)
    models = {n: int(rng.integers(1, 4)) for n in tensors} if rng.random() < 0.5 else None
    options = [f"buffer_size={rng.choice(BUFFERS)}"] if rng.random() < 0.7 else []
    if models:
        oracle.write_json(tmp_path / "map.json", models)
        options.append(f"fqn_map={tmp_path / 'map.json'}")
    env = {"OMPI_MCA_io": str(rng.choice(["ompio", "romio321"]))}
    saved(save("consolidated", spec, tmp_path / "out", *options, np=np, env=env))
    same(tmp_path / "out", expected(tensors, models))
    # The shards are those that torch would write, but for what tells of lost ones, and welding them gives the same bytes.
    saved(save("shards", spec, tmp_path / "shards", *options, np=np, env=env))
    oracle.write_sharded(str(tmp_path / "theirs"), tensors, boxes, models, own=True)
    same(tmp_path / "shards", oracle.tree(tmp_path / "theirs"))
    ok(runner.run(["consolidate", tmp_path / "shards", tmp_path / "welded"]))
    same(tmp_path / "welded", oracle.tree(tmp_path / "out"))


def numpy_rng(*more):
    return np.random.default_rng([SEED, *more])


def test_layouts(tmp_path, rng):
    """The options of consolidate: one file, by size, another name, the model's other files."""
    tensors = {f"{i}.weight": oracle.random_tensor(rng, "F32", (10, 6)) for i in range(9)}
    spec = describe(str(tmp_path / "memory"), tensors, random_boxes(rng, tensors, 3), rng)
    saved(save("consolidated", spec, tmp_path / "one", "single_file", np=3))
    same(tmp_path / "one", {oracle.SINGLE: oracle.serialize(tensors)})
    saved(save("consolidated", spec, tmp_path / "sizes", "max_shard_size=500B", np=3))
    same(tmp_path / "sizes", oracle.consolidated(tensors, oracle.by_size(tensors, 500)[0]))
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "config.json").write_text('{"torch_dtype": "float32", "deep": 1e400}')
    saved(save("consolidated", spec, tmp_path / "cast", "cast_dtype=bf16", "single_file", f"assets={tmp_path / 'assets'}", np=2 + 1))
    assert (tmp_path / "cast" / "config.json").read_text() == '{"torch_dtype": "bfloat16", "deep": 1e400}'
    ok(runner.run(["consolidate", "--cast-dtype", "bf16", tmp_path / "one", tmp_path / "theirs"]))
    assert oracle.tree(tmp_path / "cast")[oracle.SINGLE] == oracle.tree(tmp_path / "theirs")[oracle.SINGLE]


def test_dequantize(tmp_path, rng):
    """A weight and its scales, held by different ranks."""
    tensors = {"w.weight": oracle.random_tensor(rng, "F8_E4M3", (300, 200)), "w.weight_scale_inv": oracle.random_tensor(rng, "BF16", (3, 2))}
    tensors["w.weight_scale_inv"] = oracle.Tensor("F32", (3, 2), np.arange(1, 7, dtype="<f4").tobytes())
    boxes = {"w.weight": oracle.boxes_of((300, 200), (3,), (1,)), "w.weight_scale_inv": [None, oracle.whole((3, 2)), None]}
    spec = describe(str(tmp_path / "memory"), tensors, boxes, rng)
    saved(save("shards", spec, tmp_path / "shards", np=3))
    saved(save("consolidated", spec, tmp_path / "out", "dequantize=bf16", np=3))
    ok(runner.run(["consolidate", "--dequantize", "bf16", tmp_path / "shards", tmp_path / "welded"]))
    same(tmp_path / "out", oracle.tree(tmp_path / "welded"))


def test_several_boxes(tmp_path, rng):
    """A rank with two boxes of a tensor: one file each."""
    tensor = oracle.random_tensor(rng, "I16", (4, 6))
    quarters = [oracle.Box((a, b), (2, 3)) for a in (0, 2) for b in (0, 3)]
    spec = describe(str(tmp_path / "memory"), {"w": tensor}, {"w": [[quarters[0], quarters[3]], None, [quarters[1], quarters[2]]]}, rng)
    saved(save("consolidated", spec, tmp_path / "out", np=3))
    same(tmp_path / "out", expected({"w": tensor}))
    saved(save("shards", spec, tmp_path / "shards", np=3))
    assert sorted(os.listdir(tmp_path / "shards")) == [oracle.shard_name(i) for i in (1, 3, 4, 6)]
    ok(runner.run(["consolidate", tmp_path / "shards", tmp_path / "welded"]))
    same(tmp_path / "welded", oracle.tree(tmp_path / "out"))


def test_replace(tmp_path, rng):
    """What is there is replaced only if that is asked for; and a shard set, by one of other ranks, as a whole."""
    for kind in ("consolidated", "shards"):
        out = tmp_path / kind
        for round_, ranks in enumerate((5, 3)):
            tensors = random_tensors(rng)
            boxes = random_boxes(rng, tensors, ranks)
            spec = describe(str(tmp_path / f"memory-{kind}-{round_}"), tensors, boxes, rng)
            if round_:
                before = oracle.tree(out)
                refused(save(kind, spec, out, np=ranks), 2, "already")
                same(out, before)
            saved(save(kind, spec, out, *(["overwrite"] if round_ else []), np=ranks))
        if kind == "consolidated":
            same(out, expected(tensors))
        else:
            oracle.write_sharded(str(tmp_path / "theirs"), tensors, boxes, own=True)
            same(out, oracle.tree(tmp_path / "theirs"))
    assert sorted(n for n in os.listdir(tmp_path) if n.startswith(".")) == []


def drop(items):
    del items[1]


def outside(items):
    items[1]["offsets"] = [90, 0]


# All that can be wrong: tests/unit/test_writer.c.
@pytest.mark.parametrize("kind, change, status, words", [
    ("consolidated", drop, 3, ["no rank holds the elements from offsets [2, 0]", "'w'"]),
    ("shards", outside, 2, ["rank-0000000001", "lies outside the tensor's shape [6, 5]"]),
])  # fmt: skip
def test_bad(tmp_path, rng, kind, change, status, words):
    tensors = {"w": oracle.random_tensor(rng, "BF16", (6, 5))}
    spec = describe(str(tmp_path / "memory"), tensors, {"w": oracle.boxes_of((6, 5), (3,), (0,))}, rng)
    edit(spec, change)
    refused(save(kind, spec, tmp_path / "out", np=3), status, *words)
    assert sorted(os.listdir(tmp_path)) == ["memory"]


def test_missing_in_map(tmp_path, rng):
    tensors = {"w": oracle.random_tensor(rng, "BF16", (6, 5)), "v": oracle.random_tensor(rng, "BF16", (6, 5))}
    spec = describe(str(tmp_path / "memory"), tensors, {n: oracle.boxes_of((6, 5), (2,), (0,)) for n in tensors}, rng)
    oracle.write(tmp_path / "map.json", json.dumps({"w": 2}))
    for kind in ("consolidated", "shards"):
        refused(save(kind, spec, tmp_path / "out", f"fqn_map={tmp_path / 'map.json'}", np=2), 3, "'v'")
    assert sorted(os.listdir(tmp_path)) == ["map.json", "memory"]
