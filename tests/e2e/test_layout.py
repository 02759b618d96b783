"""Which tensor goes into which file: every option, their precedence, and the text of the index."""

import json

import oracle
import pytest
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


def same(out, want):
    assert oracle.difference(oracle.tree(out), want) == ""


def write_json(path, value):
    oracle.write_json(str(path), value)
    return path


def write_index(path, weight_map, **more):
    return write_json(path, {"metadata": {"total_size": 1}, "weight_map": weight_map, **more})


# ---- the default: what the input says -------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 1, 2, 3])
def test_one_model_file_keeps_its_number_and_has_an_index(dirs, make, weld, np):
    src, out = dirs
    ckpt = make(src)
    ok(weld(src, out, np=np))
    same(out, ckpt.expect())


def test_the_index_is_exactly_pythons(dirs, make, weld):
    src, out = dirs
    ckpt = make(src, models=SPREAD)
    ok(weld(src, out))
    text = (out / oracle.INDEX).read_text()
    assert text == oracle.index_text(ckpt.tensors, oracle.numbered(SPREAD))
    assert text.startswith('{\n  "metadata": {\n    "total_parameters": ')


def test_the_index_escapes_names_as_python(dirs, make, weld, rng):
    src, out = dirs
    names = ["plain", "é", "\U0001f600.w", 'q"\\', "tab\t\x01\x7f", "/", "\u2028", "\uffff"]
    tensors = {n: oracle.random_tensor(rng, "F32", (3,)) for n in names}
    ckpt = make(src, tensors=tensors)
    ok(weld(src, out))
    same(out, ckpt.expect())


def test_model_numbers_of_the_shards_are_kept(dirs, make, weld):
    src, out = dirs
    ckpt = make(src, models=SPREAD)
    ok(weld(src, out, np=2))
    same(out, ckpt.expect())


def test_numbers_keep_their_gaps(dirs, make, weld):
    """n is the largest index; a file without tensors is not written."""
    src, out = dirs
    models = {n: 2 if i % 2 else 5 for i, n in enumerate(NAMES)}
    ckpt = make(src, models=models)
    ok(weld(src, out))
    same(out, ckpt.expect())
    assert sorted(p.name for p in out.glob("*.safetensors")) == [oracle.model_name(2, 5), oracle.model_name(5, 5)]


def test_more_than_five_digits(dirs, make, weld):
    src, out = dirs
    ckpt = make(src, models={n: 123456 for n in NAMES})
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


def test_names_without_numbers_mean_by_size(dirs, make, weld, rng):
    src, out = dirs
    ckpt = make(src)
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


def test_plain_numbers_are_kept_without_an_index(dirs, weld, tensors):
    src, out = dirs
    files = oracle.numbered({n: 1 + i % 2 for i, n in enumerate(tensors)})
    plain(src, tensors, files)
    ok(weld(src, out, np=2))
    same(out, oracle.consolidated(tensors, files))


def test_plain_single_file_stays_single(dirs, weld, tensors):
    src, out = dirs
    files = {n: oracle.SINGLE for n in tensors}
    plain(src, tensors, files)
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files, None))


def test_the_inputs_own_index_is_kept(dirs, weld, tensors):
    src, out = dirs
    files = {n: f"sub/part-{i % 2}.safetensors" if i % 3 else "top.safetensors" for i, n in enumerate(tensors)}
    plain(src, tensors, files, oracle.INDEX)
    ok(weld(src, out, np=3))
    same(out, oracle.consolidated(tensors, files))


def test_an_index_names_only_its_files(dirs, weld, tensors):
    src, out = dirs
    files = oracle.numbered({n: 1 + i % 2 for i, n in enumerate(tensors)})
    plain(src, tensors, files, oracle.INDEX)
    oracle.write(str(src / "stray.safetensors"), b"not a safetensors file")
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files))


def test_diffusers_index_is_kept(dirs, weld, tensors):
    src, out = dirs
    index = "diffusion_pytorch_model.safetensors.index.json"
    files = {n: f"diffusion_pytorch_model-{1 + i % 2:05}-of-00002.safetensors" for i, n in enumerate(tensors)}
    plain(src, tensors, files, index)
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files, index))


def test_an_empty_weight_map_is_no_index(dirs, weld, tensors):
    src, out = dirs
    files = oracle.numbered({n: 1 + i % 2 for i, n in enumerate(tensors)})
    plain(src, tensors, files)
    write_index(src / oracle.INDEX, {})
    ok(weld(src, out))
    same(out, oracle.consolidated(tensors, files))


# ---- --fqn-map ------------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 2, 3])
def test_fqn_map(dirs, make, weld, tmp_path, np):
    src, out = dirs
    ckpt = make(src)
    mapping = write_json(tmp_path / "map.json", SPREAD)
    ok(weld(src, out, "--fqn-map", mapping, np=np))
    same(out, ckpt.expect(oracle.numbered(SPREAD)))


def test_fqn_map_with_gaps(dirs, make, weld, tmp_path):
    src, out = dirs
    ckpt = make(src)
    numbers = {n: 3 if i % 2 else 7 for i, n in enumerate(NAMES)}
    ok(weld(src, out, f"--fqn-map={write_json(tmp_path / 'map.json', numbers)}"))
    same(out, ckpt.expect(oracle.numbered(numbers)))


def test_fqn_map_lacks_a_tensor(dirs, make, weld, tmp_path):
    src, out = dirs
    make(src)
    mapping = write_json(tmp_path / "map.json", {n: 1 for n in NAMES if n != "model.norm"})
    fails(weld(src, out, "--fqn-map", mapping, np=2), 3, "model.norm", "map.json")
    assert not out.exists()


def test_fqn_map_holds_more(dirs, make, weld, tmp_path):
    """A tied weight: dropped, with a warning that -q silences."""
    src, out = dirs
    ckpt = make(src)
    mapping = write_json(tmp_path / "map.json", {**SPREAD, "lm_head.weight": 2})
    result = weld(src, out, "--fqn-map", mapping, np=2)
    assert result.status == 0 and result.stdout == "", show(result)
    assert len(warnings(result)) == 1 and "lm_head.weight" in warnings(result)[0], show(result)
    same(out, ckpt.expect(oracle.numbered(SPREAD)))
    result = weld(src, out, "-q", "--overwrite", "--fqn-map", mapping)
    ok(result)


def test_fqn_map_number_of_a_dropped_tensor_still_counts(dirs, make, weld, tmp_path):
    """n is the largest index, also where the file has become empty, as torch has it; either way no file is written."""
    src, out = dirs
    make(src)
    mapping = write_json(tmp_path / "map.json", {**{n: 1 for n in NAMES}, "lm_head.weight": 2})
    result = weld(src, out, "-q", "--fqn-map", mapping)
    assert result.status == 0, show(result)
    assert len(list(out.glob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"a": "1"}', '{"a": 1.5}', '{"a": 0}', '{"a": -1}', '{"a": true}', '{"a": null}',
     '{"a": 1, "a": 2}', '{"a": 1} x', '{"a": 99999999999999999999}', b'{"\xff": 1}'],
)  # fmt: skip
def test_fqn_map_malformed(dirs, make, weld, tmp_path, text):
    src, out = dirs
    make(src)
    oracle.write(str(tmp_path / "map.json"), text)
    fails(weld(src, out, "--fqn-map", tmp_path / "map.json"), 3, "map.json")
    assert not out.exists()


def test_fqn_map_missing(dirs, make, weld, tmp_path):
    src, out = dirs
    make(src)
    fails(weld(src, out, "--fqn-map", tmp_path / "nowhere.json", np=2), 2, "nowhere.json")
    assert not out.exists()


# ---- --like ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("index", [oracle.INDEX, "diffusion_pytorch_model.safetensors.index.json", "odd.index.json"])
def test_like(dirs, make, weld, tmp_path, index, np):
    src, out = dirs
    ckpt = make(src)
    files = {n: ["one.safetensors", "deep/er/two.safetensors", "deep/three é.safetensors"][i % 3] for i, n in enumerate(NAMES)}
    like = write_index(tmp_path / "like" / index, files)
    ok(weld(src, out, "--like", like, np=np))
    same(out, ckpt.expect(files, index))


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/x.safetensors", "a/../x.safetensors", "", "..", "a\nb"]
)
def test_like_names_that_leave(dirs, make, weld, tmp_path, name):
    src, out = dirs
    make(src)
    like = write_index(tmp_path / "like" / oracle.INDEX, {n: name for n in NAMES})
    fails(weld(src, out, "--like", like), 3)
    assert not out.exists() and not (tmp_path / "x.safetensors").exists()


def test_like_lacks_a_tensor(dirs, make, weld, tmp_path):
    src, out = dirs
    make(src)
    like = write_index(tmp_path / "like" / oracle.INDEX, {n: "x.safetensors" for n in NAMES[1:]})
    fails(weld(src, out, "--like", like, np=2), 3, NAMES[0])
    assert not out.exists()


def test_like_holds_more(dirs, make, weld, tmp_path):
    src, out = dirs
    ckpt = make(src)
    like = write_index(tmp_path / "like" / oracle.INDEX, {**{n: "x.safetensors" for n in NAMES}, "tied": "y.safetensors"})
    result = weld(src, out, "--like", like)
    assert result.status == 0 and len(warnings(result)) == 1 and "tied" in warnings(result)[0], show(result)
    same(out, ckpt.expect({n: "x.safetensors" for n in NAMES}))


def test_like_compares_shapes(dirs, make, weld, tmp_path):
    """A shard that was lost from the end of a tensor is found by the shapes of the model it is like."""
    src, out = dirs
    ckpt = make(src)
    files = {n: oracle.SINGLE for n in NAMES}
    oracle.write_plain(str(tmp_path / "like"), ckpt.tensors, files, oracle.INDEX)
    ok(weld(src, out, "--like", tmp_path / "like" / oracle.INDEX))
    same(out, ckpt.expect(files))
    (src / oracle.shard_name(3)).unlink()
    result = weld(src, out, "--overwrite", "--like", tmp_path / "like" / oracle.INDEX)
    fails(result, 3, "shape")
    same(out, ckpt.expect(files))


def test_like_compares_dtypes(dirs, make, weld, tmp_path, rng):
    src, out = dirs
    ckpt = make(src)
    files = {n: oracle.SINGLE for n in NAMES}
    other = {**ckpt.tensors, "model.norm": oracle.random_tensor(rng, "F32", ())}
    oracle.write_plain(str(tmp_path / "like"), other, files, oracle.INDEX)
    result = weld(src, out, "--like", tmp_path / "like" / oracle.INDEX, np=2)
    assert result.status == 0 and len(warnings(result)) == 1 and "model.norm" in warnings(result)[0], show(result)
    same(out, ckpt.expect(files))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": null}}'])
def test_like_malformed(dirs, make, weld, tmp_path, text):
    src, out = dirs
    make(src)
    oracle.write(str(tmp_path / "like.index.json"), text)
    fails(weld(src, out, "--like", tmp_path / "like.index.json"), 3, "like.index.json")


def test_like_missing(dirs, make, weld, tmp_path):
    src, out = dirs
    make(src)
    fails(weld(src, out, "--like", tmp_path / "no.index.json"), 2, "no.index.json")


@pytest.mark.parametrize("files", [{"a": "x.safetensors", "b": "x.safetensors/y.safetensors"}, {"a": oracle.INDEX, "b": "y.safetensors"}])
def test_like_names_that_clash(dirs, weld, tmp_path, rng, make, files):
    """A file that must also be a directory, or the index itself."""
    src, out = dirs
    make(src, tensors={n: oracle.random_tensor(rng, "U8", (3,)) for n in "ab"})
    like = write_index(tmp_path / "like" / oracle.INDEX, files)
    fails(weld(src, out, "--like", like), 3)
    assert not out.exists()


# ---- --max-shard-size, --single-file --------------------------------------------------------------


def many(rng):
    sizes = [40, 10, 300, 20, 20, 0, 60, 100, 99, 1, 200, 50, 5]
    names = [f"model.layers.{i}.w" for i in range(9)] + ["model.layers.11.w", "b2", "b10", "b010"]
    return {n: oracle.random_tensor(rng, "U8", (s,)) for n, s in zip(names, sizes)}


@pytest.mark.parametrize("np", [None, 2])
@pytest.mark.parametrize("limit", [1, 50, 100, 120, 299, 300, 301, 500, 904, 905, 10**6])
def test_max_shard_size(dirs, make, weld, rng, limit, np):
    if np and limit not in (100, 300):
        pytest.skip("one rank tells the same")
    src, out = dirs
    ckpt = make(src, tensors=many(rng))
    files, index = oracle.by_size(ckpt.tensors, limit)
    ok(weld(src, out, "--max-shard-size", limit, np=np))
    same(out, ckpt.expect(files, index))


def test_max_shard_size_counts_data_of_the_whole_tensor(dirs, make, weld):
    src, out = dirs
    ckpt = make(src)
    for limit in (120, 140, 150, 10000):
        files, index = oracle.by_size(ckpt.tensors, limit)
        ok(weld(src, out, "--overwrite", "--max-shard-size", f"{limit}B"))
        same(out, ckpt.expect(files, index))


@pytest.mark.parametrize(
    "text,size",
    [("300", 300), ("300b", 300), ("0.3KB", 300), ("0.3kb", 300), ("1KB", 1000), ("1kib", 1024), ("1KiB", 1024), ("0.0001MB", 100),
     ("1GB", 10**9), ("1TB", 10**12), ("2TiB", 1 << 41), ("5gib", 5 << 30), ("1MiB", 1 << 20), ("0.5KIB", 512)],
)  # fmt: skip
def test_sizes(dirs, make, weld, rng, text, size):
    src, out = dirs
    ckpt = make(src, tensors={f"t{i}": oracle.random_tensor(rng, "U8", (n,)) for i, n in enumerate((100, 200, 224, 488, 12, 12))}, ranks=1)
    files, index = oracle.by_size(ckpt.tensors, size)
    ok(weld(src, out, "--max-shard-size", text))
    same(out, ckpt.expect(files, index))


@pytest.mark.parametrize("text", ["", "0", "-1", "KB", "1 X", "1XB", "1e3", "nan", "0x10", "1KBB", "99999999TB", "1k ", "1i", "+1", "1,5KB", "inf"])
def test_sizes_that_are_none(dirs, make, weld, text):
    src, out = dirs
    make(src)
    fails(weld(src, out, f"--max-shard-size={text}"), 2, "max-shard-size")
    assert not out.exists()


@pytest.mark.parametrize("np", [None, 3])
def test_single_file(dirs, make, weld, np):
    src, out = dirs
    ckpt = make(src, models=SPREAD)
    ok(weld(src, out, "--single-file", np=np))
    same(out, ckpt.expect({n: oracle.SINGLE for n in NAMES}, None))


# ---- .hf_metadata and precedence ------------------------------------------------------------------


def test_hf_metadata_map(dirs, make, weld):
    src, out = dirs
    ckpt = make(src)
    write_json(src / ".hf_metadata" / "fqn_to_file_index_mapping.json", SPREAD)
    ok(weld(src, out, np=2))
    same(out, ckpt.expect(oracle.numbered(SPREAD)))


def test_hf_metadata_map_wins_over_names_and_index(dirs, weld, tensors):
    src, out = dirs
    plain(src, tensors, oracle.numbered({n: 1 for n in tensors}), oracle.INDEX)
    numbers = {n: 1 + i % 2 for i, n in enumerate(tensors)}
    write_json(src / ".hf_metadata" / "fqn_to_file_index_mapping.json", numbers)
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


@pytest.mark.parametrize("text", ["{", "[]", '{"model.norm": "x"}'])
def test_hf_metadata_map_malformed(dirs, make, weld, text):
    src, out = dirs
    make(src)
    oracle.write(str(src / ".hf_metadata" / "fqn_to_file_index_mapping.json"), text)
    fails(weld(src, out), 3, "fqn_to_file_index_mapping.json")


@pytest.mark.parametrize("name", ["fqn_to_file_index_mapping.json", "fqn_to_dtype_mapping.json"])
def test_hf_metadata_map_malformed_and_not_needed(dirs, make, weld, tmp_path, name):
    src, out = dirs
    make(src)
    mapping = write_json(tmp_path / "map.json", {n: 1 for n in NAMES})
    ok(weld(src, tmp_path / "whole"))
    oracle.write(str(src / ".hf_metadata" / name), '{"model.norm": []}')
    for options in (["--single-file"], ["--max-shard-size", "1KB"], ["--fqn-map", mapping, "--no-assets"]):
        fails(weld(src, out, *options, np=2), 3, name, "model.norm")
    fails(run(["reshard", "--mesh", "2", "--no-assets", "--single-file", src, out]), 3, name, "model.norm")
    fails(run(["verify", "--single-file", src, tmp_path / "whole"]), 3, name, "model.norm")
    shown = run(["inspect", "--summary", src], np=2)
    assert shown.status == 3 and name in shown.stdout and len(errors(shown)) == 1, show(shown)
    assert not out.exists()


def test_hf_metadata_map_lacks_a_tensor(dirs, make, weld):
    src, out = dirs
    make(src)
    write_json(src / ".hf_metadata" / "fqn_to_file_index_mapping.json", {n: 1 for n in NAMES[:-1]})
    fails(weld(src, out, np=2), 3, NAMES[-1], "fqn_to_file_index_mapping.json")


def test_hf_metadata_map_holds_more(dirs, make, weld):
    src, out = dirs
    ckpt = make(src)
    write_json(src / ".hf_metadata" / "fqn_to_file_index_mapping.json", {**SPREAD, "tied.weight": 1})
    result = weld(src, out)
    assert result.status == 0 and len(warnings(result)) == 1 and "tied.weight" in warnings(result)[0], show(result)
    same(out, ckpt.expect(oracle.numbered(SPREAD)))


@pytest.mark.parametrize("style", ["{}", "torch.{}"])
def test_hf_metadata_dtypes_that_change_nothing(dirs, make, weld, style):
    src, out = dirs
    ckpt = make(src)
    torch = {"BF16": "bfloat16", "F32": "float32", "F16": "float16", "I64": "int64", "F64": "float64", "BOOL": "bool", "U8": "uint8"}
    names = {n: style.format(torch[t.dtype]) for n, t in ckpt.tensors.items()}
    write_json(src / ".hf_metadata" / "fqn_to_dtype_mapping.json", names)
    ok(weld(src, out))
    same(out, ckpt.expect())


@pytest.mark.parametrize("one", ["--fqn-map", "--like", "--max-shard-size", "--single-file"])
@pytest.mark.parametrize("two", ["--fqn-map", "--like", "--max-shard-size", "--single-file"])
def test_at_most_one_layout(dirs, make, weld, tmp_path, one, two):
    if one == two:
        pytest.skip("the same option twice is another matter")
    src, out = dirs
    make(src)
    value = {
        "--fqn-map": [write_json(tmp_path / "m.json", SPREAD)],
        "--like": [write_index(tmp_path / "l.index.json", LIKE)],
        "--max-shard-size": ["1GB"],
        "--single-file": [],
    }
    message = fails(weld(src, out, one, *value[one], two, *value[two]), 2)
    assert one in message or two in message
    assert not out.exists()


def test_the_bytes_do_not_depend_on_the_inputs_order(dirs, make, weld):
    """The same tensors in other shards, other files, other ranks: the same output."""
    src, out = dirs
    ckpt = make(src, models=SPREAD, ranks=2)
    make(src.parent / "in2", tensors=ckpt.tensors, models=SPREAD, ranks=5)
    ok(weld(src, out, np=2))
    ok(weld(src.parent / "in2", src.parent / "out2", np=3))
    same(src.parent / "out2", oracle.tree(out))


def test_dry_run_tells_the_layout(dirs, make, weld):
    """--dry-run says the same layout and writes nothing."""
    src, out = dirs
    make(src, models=SPREAD)
    result = run(["consolidate", "-n", src, out])
    assert result.status == 0 and not errors(result), show(result)
    for name in sorted(set(oracle.numbered(SPREAD).values())):
        assert name in result.stdout
    assert not out.exists()


def test_index_numbers(dirs, make, weld):
    src, out = dirs
    ckpt = make(src)
    ok(weld(src, out))
    index = json.loads((out / oracle.INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(len(t.data) for t in ckpt.tensors.values())
    assert list(index["weight_map"]) == sorted(NAMES)
