"""Which tensor goes into which file: every option, their precedence, and the text of the index."""

import itertools
import json

import oracle
import pytest
from oracle import same
from runner import errors, fails, ok, run, show, warnings

NAMES = [
    "model.embed.weight",
    "model.layers.0.q.weight",
    "model.layers.1.q.weight",
    "model.layers.10.q.weight",
    "model.layers.2.q.weight",
    "model.norm",
    "model.mask",
    "model.empty",
]
LIKE = {name: "x.safetensors" for name in NAMES}
SPREAD = {name: 1 + i % 3 for i, name in enumerate(NAMES)}


def write_json(path, value):
    oracle.write_json(str(path), value)
    return path


def write_index(path, weight_map, **more):
    return write_json(path, {"metadata": {"total_size": 1}, "weight_map": weight_map, **more})


# ---- the default: what the input says -------------------------------------------------------------


@pytest.mark.parametrize("models", [SPREAD, {n: 2 if i % 2 else 5 for i, n in enumerate(NAMES)}, {n: 123456 for n in NAMES}], ids=["all", "gaps", "six digits"])
def test_model_numbers_of_the_shards_are_kept(dirs, make, weld, models):
    """n is the largest index; a file without tensors is not written."""
    src, out = dirs
    ckpt = make(src, models=models)
    ok(weld(src, out))
    same(out, ckpt.expect())


def test_a_tensor_under_several_numbers_means_by_size(dirs, make, weld, rng):
    src, out = dirs
    tensors = {"a": oracle.random_tensor(rng, "F32", (4, 4)), "b": oracle.random_tensor(rng, "F32", (4,))}
    top, bottom = oracle.boxes_of((4, 4), (2,), (0,))
    oracle.write_shard(str(src / oracle.shard_name(1, 1, 2)), {"a": (tensors["a"], top)})
    oracle.write_shard(
        str(src / oracle.shard_name(1, 2, 2)), {"a": (tensors["a"], bottom), "b": (tensors["b"], oracle.whole((4,)))}
    )
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, {"a": oracle.SINGLE, "b": oracle.SINGLE}, None))


def test_names_without_numbers_mean_by_size(sharded, weld, rng):
    ckpt, src, out = sharded
    for i, path in enumerate(sorted(src.iterdir())):
        path.rename(src / f"rank{i}.safetensors")
    ok(weld(src, out))
    same(out, ckpt.expect({n: oracle.SINGLE for n in NAMES}, None))


def test_mixed_numbered_and_other_names_mean_by_size(dirs, make, weld, rng):
    """Plain files: some have a number in their name, one has not."""
    src, out = dirs
    tensors = {n: oracle.random_tensor(rng, "U8", (4,)) for n in "abc"}
    for name, fqn in ((oracle.model_name(1, 2), "a"), (oracle.model_name(2, 2), "b"), ("extra.safetensors", "c")):
        oracle.write(str(src / name), oracle.serialize({fqn: tensors[fqn]}))
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, {n: oracle.SINGLE for n in tensors}, None))


def plain(src, tensors, files, index=None):
    oracle.write_plain(str(src), tensors, files, index)


@pytest.fixture
def tensors(rng):
    return {n: oracle.random_tensor(rng, "F32", (i + 1, 3)) for i, n in enumerate("abcdef")}


DIFFUSERS = "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.parametrize(
    "name,index",
    [("model-{:05}-of-00002.safetensors", None), (oracle.SINGLE, None), ("sub/part-{}.safetensors", oracle.INDEX),
     ("diffusion_pytorch_model-{:05}-of-00002.safetensors", DIFFUSERS)],
)  # fmt: skip
def test_plain_files_keep_their_names(dirs, weld, tensors, name, index):
    """By their numbers, or by the input's own index, which keeps its name too."""
    src, out = dirs
    files = {n: name.format(1 + i % 2) if i % 3 or not index else "top.safetensors" for i, n in enumerate(tensors)}
    plain(src, tensors, files, index)
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files, None if name == oracle.SINGLE else index or oracle.INDEX))


def test_an_index_names_only_its_files(dirs, weld, tensors):
    src, out = dirs
    files = oracle.numbered({n: 1 + i % 2 for i, n in enumerate(tensors)})
    plain(src, tensors, files, oracle.INDEX)
    oracle.write(str(src / "stray.safetensors"), b"not a safetensors file")
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files))


def test_an_empty_weight_map_is_no_index(dirs, weld, tensors):
    src, out = dirs
    files = oracle.numbered({n: 1 + i % 2 for i, n in enumerate(tensors)})
    plain(src, tensors, files)
    write_index(src / oracle.INDEX, {})
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files))


# ---- --fqn-map ------------------------------------------------------------------------------------


def test_fqn_map_number_of_a_dropped_tensor_still_counts(sharded, weld, tmp_path):
    """n is the largest index, also where the file has become empty, as torch has it; either way no file is written."""
    _, src, out = sharded
    mapping = write_json(tmp_path / "map.json", {**{n: 1 for n in NAMES}, "lm_head.weight": 2})
    result = weld(src, out, "-q", "--fqn-map", mapping)
    assert result.status == 0, show(result)
    assert len(list(out.glob("*.safetensors"))) == 1


# ---- --like ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("index, np", [(oracle.INDEX, 3), (DIFFUSERS, None), ("odd.index.json", None)])
def test_like(sharded, weld, tmp_path, index, np):
    ckpt, src, out = sharded
    files = {n: ["one.safetensors", "deep/er/two.safetensors", "deep/three é.safetensors"][i % 3] for i, n in enumerate(NAMES)}
    like = write_index(tmp_path / "like" / index, files)
    ok(weld(src, out, "--like", like, np=np))
    same(out, ckpt.expect(files, index))


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "a/../../x.safetensors", "", "a/"]
)
def test_like_names_that_leave(sharded, weld, tmp_path, name):
    _, src, out = sharded
    like = write_index(tmp_path / "like" / oracle.INDEX, {n: name for n in NAMES})
    fails(weld(src, out, "--like", like), 3)
    assert not out.exists() and not (tmp_path / "x.safetensors").exists()


def test_like_compares_shapes(sharded, weld, tmp_path):
    """A shard that was lost from the end of a tensor is found by the shapes of the model it is like."""
    ckpt, src, out = sharded
    files = {n: oracle.SINGLE for n in NAMES}
    oracle.write_plain(str(tmp_path / "like"), ckpt.tensors, files, oracle.INDEX)
    ok(weld(src, out, "--like", tmp_path / "like" / oracle.INDEX))
    same(out, ckpt.expect(files))
    (src / oracle.shard_name(3)).unlink()
    result = weld(src, out, "--overwrite", "--like", tmp_path / "like" / oracle.INDEX)
    fails(result, 3, "shape")
    same(out, ckpt.expect(files))


def test_like_compares_dtypes(sharded, weld, tmp_path, rng):
    ckpt, src, out = sharded
    files = {n: oracle.SINGLE for n in NAMES}
    other = {**ckpt.tensors, "model.norm": oracle.random_tensor(rng, "F32", ())}
    oracle.write_plain(str(tmp_path / "like"), other, files, oracle.INDEX)
    result = weld(src, out, "--like", tmp_path / "like" / oracle.INDEX, np=2)
    assert result.status == 0 and len(warnings(result)) == 1 and "model.norm" in warnings(result)[0], show(result)
    same(out, ckpt.expect(files))


# ---- any map --------------------------------------------------------------------------------------


# Every malformed one: tests/unit/test_maps.c.
MAP = "fqn_to_file_index_mapping.json"
MAPS = {"--fqn-map": "m.json", "--like": "l.index.json", "metadata": MAP}


def given(src, tmp_path, kind, text):
    """The options that give this text, or {name: number or file}, as a map of that kind."""
    path = (src / ".hf_metadata" if kind == "metadata" else tmp_path) / MAPS[kind]
    if isinstance(text, dict) and kind == "--like":
        text = {"weight_map": {n: oracle.model_name(j, 3) for n, j in text.items()}}
    oracle.write(str(path), json.dumps(text) if isinstance(text, dict) else text)
    return [] if kind == "metadata" else [kind, path]


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_that_lacks_a_tensor_or_is_none(sharded, weld, tmp_path, kind):
    _, src, out = sharded
    fails(weld(src, out, *given(src, tmp_path, kind, {n: 1 for n in NAMES[:-1]}), np=2), 3, NAMES[-1], *([] if kind == "--like" else [MAPS[kind]]))
    for text in ("{", '{"model.norm": 0}' if kind != "--like" else '{"weight_map": {"a": 1}}'):
        fails(weld(src, out, *given(src, tmp_path, kind, text)), 3, MAPS[kind])
    if kind != "metadata":
        fails(weld(src, out, kind, tmp_path / "no.index.json", np=2), 2, "no.index.json")
    assert not out.exists()


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_that_holds_more(sharded, weld, tmp_path, kind):
    """A tied weight: dropped, with a warning that -q silences."""
    ckpt, src, out = sharded
    options = given(src, tmp_path, kind, {**SPREAD, "lm_head.weight": 2})
    result = weld(src, out, *options, np=2)
    assert result.status == 0 and result.stdout == "", show(result)
    assert len(warnings(result)) == 1 and "lm_head.weight" in warnings(result)[0], show(result)
    same(out, ckpt.expect(oracle.numbered(SPREAD), MAPS[kind] if kind == "--like" else oracle.INDEX))
    ok(weld(src, out, "-q", "--overwrite", *options))


# ---- --max-shard-size, --single-file --------------------------------------------------------------


def many(rng):
    sizes = [40, 10, 300, 20, 20, 0, 60, 100, 99, 1, 200, 50, 5]
    names = [f"model.layers.{i}.w" for i in range(9)] + ["model.layers.11.w", "b2", "b10", "b010"]
    return {n: oracle.random_tensor(rng, "U8", (s,)) for n, s in zip(names, sizes)}


@pytest.mark.parametrize("limit", [1, 50, 100, 120, 299, 300, 301, 500, 904, 905, 10**6])
def test_max_shard_size(dirs, make, weld, rng, limit):
    src, out = dirs
    ckpt = make(src, tensors=many(rng))
    files, index = oracle.by_size(ckpt.tensors, limit)
    ok(weld(src, out, "--max-shard-size", limit))
    same(out, ckpt.expect(files, index))


# ---- .hf_metadata and precedence ------------------------------------------------------------------


def test_hf_metadata_map_wins_over_names_and_index(dirs, weld, tensors):
    src, out = dirs
    plain(src, tensors, oracle.numbered({n: 1 for n in tensors}), oracle.INDEX)
    numbers = {n: 1 + i % 2 for i, n in enumerate(tensors)}
    write_json(src / ".hf_metadata" / MAP, numbers)
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, oracle.numbered(numbers)))


@pytest.mark.parametrize("option", ["--fqn-map", "--like", "--max-shard-size", "--single-file"])
def test_options_win_over_hf_metadata(dirs, make, weld, tmp_path, option):
    src, out = dirs
    ckpt = make(src, models=SPREAD)
    write_json(src / ".hf_metadata" / "fqn_to_file_index_mapping.json", {n: 1 + i % 2 for i, n in enumerate(NAMES)})
    numbers = {n: 4 if i % 4 else 2 for i, n in enumerate(NAMES)}
    args, files, index = {
        "--fqn-map": ([write_json(tmp_path / "m.json", numbers)], oracle.numbered(numbers), oracle.INDEX),
        "--like": ([write_index(tmp_path / "l.index.json", LIKE)], LIKE, "l.index.json"),
        "--max-shard-size": (["120"], *oracle.by_size(ckpt.tensors, 120)),
        "--single-file": ([], {n: oracle.SINGLE for n in NAMES}, None),
    }[option]
    ok(weld(src, out, option, *args))
    same(out, ckpt.expect(files, index))


@pytest.mark.parametrize("name", ["fqn_to_file_index_mapping.json", "fqn_to_dtype_mapping.json"])
def test_hf_metadata_map_malformed_and_not_needed(sharded, weld, tmp_path, name):
    _, src, out = sharded
    mapping = write_json(tmp_path / "map.json", {n: 1 for n in NAMES})
    ok(weld(src, tmp_path / "whole"))
    oracle.write(str(src / ".hf_metadata" / name), '{"model.norm": []}')
    for options in (["--single-file"], ["--max-shard-size", "1KB"], ["--fqn-map", mapping, "--no-assets"]):
        fails(weld(src, out, *options), 3, name, "model.norm")
    fails(run(["reshard", "--mesh", "2", "--no-assets", "--single-file", src, out]), 3, name, "model.norm")
    fails(run(["verify", "--single-file", src, tmp_path / "whole"]), 3, name, "model.norm")
    shown = run(["inspect", "--summary", src], np=2)
    assert shown.status == 3 and name in shown.stdout and len(errors(shown)) == 1, show(shown)
    assert not out.exists()


@pytest.mark.parametrize("one,two", itertools.permutations(["--fqn-map", "--like", "--max-shard-size", "--single-file"], 2))
def test_at_most_one_layout(sharded, weld, one, two):
    _, src, out = sharded
    value = {"--fqn-map": ["m.json"], "--like": ["l.index.json"], "--max-shard-size": ["1GB"], "--single-file": []}
    message = fails(weld(src, out, one, *value[one], two, *value[two]), 2, "exclude")
    assert one in message and two in message
    assert not out.exists()
