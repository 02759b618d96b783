"""--include, --exclude, --strip-prefix, --rename: which tensors come along, what they are called, and what maps mean then."""

import fnmatch
import json
import re

import oracle
import pytest
import values
from oracle import same
from runner import fails, ok, show, warnings
from test_layout import MAPS, given, write_index, write_json

FILE_MAP = "fqn_to_file_index_mapping.json"
DTYPE_MAP = "fqn_to_dtype_mapping.json"
NAMES = ["model.embed.weight", "model.layers.0.q.weight", "model.layers.1.q.weight", "model.layers.10.q.weight", "model.norm", "lm_head.weight",
         "vision.0.w", "vision.1.w", "é/x"]  # fmt: skip


def warns(result, *lines):
    """Status 0, and for each of these lists of words one warning that has them."""
    assert result.status == 0 and result.stdout == "", show(result)
    assert len(warnings(result)) == len(result.stderr.splitlines()) == len(lines), show(result)
    for line, words in zip(warnings(result), lines):
        for word in [words] if isinstance(words, str) else words:
            assert word in line, show(result)


@pytest.fixture
def tensors(rng):
    dtypes = ["F32", "BF16", "I64"]
    return {n: oracle.random_tensor(rng, dtypes[i % 3], (3 + i, 4)) for i, n in enumerate(NAMES)}


@pytest.fixture
def named(dirs, tensors, make):
    """(tensors, input, output): sharded."""
    make(dirs[0], tensors=tensors)
    return tensors, *dirs


def renamed(name, rules):
    """rules: ("strip", P) or ("rename", FROM, TO), one after the other."""
    for _, begin, *to in rules:
        if name.startswith(begin):
            name = (to[0] if to else "") + name[len(begin) :]
    return name


def options_of(rules):
    return [f"--strip-prefix={r[1]}" if r[0] == "strip" else f"--rename={r[1]}={r[2]}" for r in rules]


def one_file(tensors):
    return oracle.consolidated(tensors, oracle.numbered({n: 1 for n in tensors}))


# What all globs and rules do: tests/unit/test_naming.c.
# ---- --include, --exclude -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "include,exclude",
    [(["*"], ["model*", "*/*"]), (["model.norm", "lm_head.*"], []), (["vision.[01].w", "é/*", "model.layers.?.*"], ["vision.[!0].w"])],
)
def test_globs(named, tensors, weld, include, exclude):
    tensors, src, out = named
    chosen = [n for n in tensors if not include or any(fnmatch.fnmatchcase(n, g) for g in include)]
    chosen = [n for n in chosen if not any(fnmatch.fnmatchcase(n, g) for g in exclude)]
    ok(weld(src, out, *[f"--include={g}" for g in include], *[a for g in exclude for a in ("--exclude", g)]))
    same(out, one_file({n: tensors[n] for n in chosen}))


def test_a_glob_that_matches_nothing_is_told(named, tensors, weld):
    tensors, src, out = named
    options = ["--include=model.*", "--include=nothing*", "--exclude=no.way"]
    warns(weld(src, out, *options), ["--include", "nothing*"], ["--exclude", "no.way"])
    same(out, one_file({n: t for n, t in tensors.items() if n.startswith("model.")}))
    ok(weld(src, out, "-q", "--overwrite", *options))


def test_nothing_is_left(named, tensors, weld):
    tensors, src, out = named
    fails(weld(src, out, "--include=model.*", "--exclude=model.*"), 2, "--include", "--exclude", str(len(tensors)))
    assert not out.exists()


def test_numbers_of_files_are_kept(dirs, tensors, make, weld):
    """The files of what is left out are not written, the others keep their names."""
    src, out = dirs
    models = {n: 3 if n.startswith("vision") else 1 if "layers" in n else 2 for n in tensors}
    make(src, tensors=tensors, models=models)
    ok(weld(src, out, "--exclude=vision.*", "--exclude=*.layers.*"))
    files = {n: oracle.model_name(j, 3) for n, j in models.items() if j == 2}
    same(out, oracle.consolidated({n: tensors[n] for n in files}, files))


def test_a_plain_checkpoint_in_part(dirs, tensors, weld):
    src, out = dirs
    files = {n: "weights/a.safetensors" if n.startswith("model.") else "b.safetensors" for n in tensors}
    oracle.write_plain(str(src), tensors, files, oracle.INDEX)
    ok(weld(src, out, "--include=model.*"))
    files = {n: f for n, f in files.items() if n.startswith("model.")}
    same(out, oracle.consolidated({n: tensors[n] for n in files}, files))


def test_dry_run_and_report_count_what_is_chosen(named, tensors, weld, tmp_path):
    tensors, src, out = named
    chosen = {n: t for n, t in tensors.items() if n.startswith("model.")}
    result = weld(src, out, "-n", "--include=model.*")
    assert result.status == 0 and result.stderr == "" and not out.exists(), show(result)
    assert re.search(rf"\b{len(chosen)} tensors\b", result.stdout), show(result)
    assert str(len(oracle.serialize(chosen))) in result.stdout, show(result)
    ok(weld(src, out, "--include=model.*", "--report", tmp_path / "r"))
    got = json.loads((tmp_path / "r").read_text())
    assert got["tensors"] == len(chosen) and got["bytes"] == sum(len(t.data) for t in chosen.values())


def test_what_is_left_out_needs_no_place_in_a_split(named, tensors, weld):
    tensors, src, out = named
    chosen = {n: t for n, t in tensors.items() if "layers" not in n}
    for limit in (100, 200):
        ok(weld(src, out, "--overwrite", "--exclude=*layers*", "--max-shard-size", limit))
        same(out, oracle.consolidated(chosen, *oracle.by_size(chosen, limit)))


# ---- --strip-prefix, --rename ---------------------------------------------------------------------


RULES = [
    [("rename", "vision.", "a=b.")], [("strip", "model."), ("rename", "", "m.")],
    [("rename", "model.", "t."), ("rename", "vision.", "model."), ("rename", "t.", "vision.")],
]  # fmt: skip


@pytest.mark.parametrize("rules", RULES, ids=lambda r: " ".join(options_of(r)))
def test_rules(named, tensors, weld, rules):
    """In the order in which they are given."""
    tensors, src, out = named
    ok(weld(src, out, *options_of(rules)))
    same(out, one_file({renamed(n, rules): t for n, t in tensors.items()}))


@pytest.mark.parametrize(
    "option,words",
    [("--rename=vision.1=vision.0", ["vision.0.w", "vision.1.w", "--rename"]), ("--strip-prefix=model.norm", ["model.norm", "--strip-prefix"])],
)
def test_rules_that_make_no_names(named, tensors, weld, option, words):
    tensors, src, out = named
    fails(weld(src, out, option), 2, *words)
    assert not out.exists()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_wrappers_are_told_with_the_option_that_takes_them_off(dirs, tensors, make, weld, prefix):
    src, out = dirs
    wrapped = {prefix + n: t for n, t in tensors.items()}
    ckpt = make(src, tensors=wrapped)
    result = weld(src, out)
    warns(result, f"--strip-prefix {prefix}")
    same(out, ckpt.expect())
    option = re.search(r"(--strip-prefix) (\S+)", result.stderr).groups()
    ok(weld(src, out, "--overwrite", *option))
    same(out, one_file(tensors))


# ---- maps -----------------------------------------------------------------------------------------


RULE = [("strip", "model."), ("rename", "", "new.")]
NEW = {n: renamed(n, RULE) for n in NAMES}


def renamed_tensors(tensors):
    return {NEW[n]: t for n, t in tensors.items()}


def test_the_map_of_the_metadata_has_the_inputs_names(named, tensors, weld):
    tensors, src, out = named
    numbers = {n: 1 + i % 3 for i, n in enumerate(tensors)}
    write_json(src / ".hf_metadata" / FILE_MAP, numbers)
    ok(weld(src, out, *options_of(RULE), np=2))
    same(out, oracle.consolidated(renamed_tensors(tensors), oracle.numbered({NEW[n]: j for n, j in numbers.items()})))


def test_the_inputs_index_has_the_inputs_names(dirs, tensors, weld):
    src, out = dirs
    files = {n: ["x.safetensors", "deep/y.safetensors"][i % 2] for i, n in enumerate(tensors)}
    oracle.write_plain(str(src), tensors, files, oracle.INDEX)
    ok(weld(src, out, *options_of(RULE)))
    same(out, oracle.consolidated(renamed_tensors(tensors), {NEW[n]: f for n, f in files.items()}))


def test_the_dtypes_of_the_metadata_have_the_inputs_names(named, tensors, weld):
    tensors, src, out = named
    write_json(src / ".hf_metadata" / DTYPE_MAP, {"model.embed.weight": "bfloat16", "new.embed.weight": "float16", NEW["model.norm"]: "float64"})
    ok(weld(src, out, *options_of(RULE), np=2))
    want = renamed_tensors({**tensors, "model.embed.weight": values.cast(tensors["model.embed.weight"], "BF16")})
    same(out, one_file(want))


def test_fqn_map_has_the_outputs_names(named, tensors, weld, tmp_path):
    tensors, src, out = named
    numbers = {NEW[n]: 2 + i % 3 for i, n in enumerate(tensors)}
    ok(weld(src, out, *options_of(RULE), "--fqn-map", write_json(tmp_path / "m.json", numbers)))
    same(out, oracle.consolidated(renamed_tensors(tensors), oracle.numbered(numbers)))


def test_fqn_map_with_the_inputs_names(named, tensors, weld, tmp_path):
    tensors, src, out = named
    mapping = write_json(tmp_path / "m.json", {n: 1 for n in tensors})
    message = fails(weld(src, out, *options_of(RULE), "--fqn-map", mapping), 3, "m.json")
    assert any(name in message for name in NEW.values())
    assert not out.exists()


def test_like_has_the_outputs_names(named, tensors, weld, tmp_path):
    """Shapes and dtypes are compared with those of the tensor that gets the name."""
    tensors, src, out = named
    new = renamed_tensors(tensors)
    files = {n: f"{i % 2}.safetensors" for i, n in enumerate(new)}
    oracle.write_plain(str(tmp_path / "like"), new, files, oracle.INDEX)
    ok(weld(src, out, *options_of(RULE), "--like", tmp_path / "like" / oracle.INDEX, np=2))
    same(out, oracle.consolidated(new, files))
    rules = ["--rename=vision.0=t", "--rename=vision.1=vision.0", "--rename=t=vision.1"]  # exchanged: of other shapes
    fails(weld(src, out, *rules, *options_of(RULE), "--overwrite", "--like", tmp_path / "like" / oracle.INDEX), 3, "shape")


def test_like_compares_what_is_written(named, tensors, weld, tmp_path):
    """Cast to what the other model has: nothing to warn of."""
    tensors, src, out = named
    want = values.cast_all(tensors, "F16")
    files = {n: "x.safetensors" for n in want}
    oracle.write_plain(str(tmp_path / "like"), want, files, oracle.INDEX)
    ok(weld(src, out, "--cast-dtype=fp16", "--like", tmp_path / "like" / oracle.INDEX))
    same(out, oracle.consolidated(want, files))


# ---- tied weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAPS)
def test_what_is_left_out_on_purpose_is_no_tied_weight(named, tensors, weld, tmp_path, kind):
    tensors, src, out = named
    numbers = {n: 1 + i % 2 for i, n in enumerate(tensors)}
    options = ["--exclude=vision.*", *given(src, tmp_path, kind, numbers)]
    files = {n: oracle.model_name(j, 3 if kind == "--like" else 2) for n, j in numbers.items() if not n.startswith("vision.")}
    want = oracle.consolidated({n: tensors[n] for n in files}, files, MAPS[kind] if kind == "--like" else oracle.INDEX)
    ok(weld(src, out, *options, np=2))
    same(out, want)
    given(src, tmp_path, kind, {**numbers, "tied.weight": 1})
    result = weld(src, out, "--overwrite", *options)
    warns(result, ["1 tensor", "tied.weight"])
    assert "vision" not in result.stderr, show(result)
    same(out, want)


def test_the_first_ten_tied_weights_are_listed(named, tensors, weld):
    """And the index has no hole: all that it names is there."""
    tensors, src, out = named
    tied = [f"tied.{i:02}.weight" for i in range(25)]
    numbers = {**{n: 1 + i % 2 for i, n in enumerate(tensors)}, **{n: 1 for n in tied}}
    write_json(src / ".hf_metadata" / FILE_MAP, numbers)
    result = weld(src, out)
    warns(result, ["25", *tied[:10], "..."])
    assert not any(name in result.stderr for name in tied[10:]), show(result)
    same(out, oracle.consolidated(tensors, oracle.numbered({n: numbers[n] for n in tensors})))


def test_tied_weights_of_a_plain_index(dirs, tensors, weld):
    src, out = dirs
    files = {n: "x.safetensors" for n in tensors}
    oracle.write_plain(str(src), tensors, files)
    write_index(src / oracle.INDEX, {**files, "tied.weight": "x.safetensors"})
    warns(weld(src, out, *options_of(RULE)), ["tied.weight"])
    same(out, oracle.consolidated(renamed_tensors(tensors), {NEW[n]: f for n, f in files.items()}))


# ---- with values ----------------------------------------------------------------------------------


def test_names_of_quantized_tensors(dirs, rng, make, weld, tmp_path):
    """The partners are found by the input's names; X is the renamed X_blocks without its ending."""
    src, out = dirs
    saved = {**values.mxfp4_tensors(rng, "model.e.up", 2, 9, 2), **values.scaled_tensors(rng, "model.q", "F8_E4M3", (130, 140))}
    make(src, tensors=saved)
    want = {"net.e.up": values.mxfp4(saved["model.e.up_blocks"], saved["model.e.up_scales"], "BF16"),
            "net.q.weight": values.scaled(saved["model.q.weight"], saved["model.q.weight_scale_inv"], "BF16")}  # fmt: skip
    ok(weld(src, out, "--dequantize=bf16", "--rename=model.=net."))
    same(out, one_file(want))
    write_json(src / ".hf_metadata" / FILE_MAP, {n: 2 if n.startswith("model.q") else 1 for n in saved})
    ok(weld(src, out, "--overwrite", "--dequantize=bf16", "--rename=model.=net."))
    same(out, oracle.consolidated(want, oracle.numbered({"net.e.up": 1, "net.q.weight": 2})))
