"""The model's other files: which come along, from where, how config.json is edited; and the names of files, --diffusers and --like."""

import json
import os
import stat

import oracle
import pytest
import values
from oracle import same
from runner import errors, fails, ok, run, show, warns
from test_layout import given, write_index, write_json

DIFFUSERS = "diffusion_pytorch_model"
TOP = {
    "config.json": b'{"a": 1}', "generation_config.json": b"{}", "tokenizer.json": b"[]", "tokenizer.model": b"\0\1", "merges.txt": b"a b",
    "qwen.tiktoken": b"x", "chat_template.jinja": b"{{ x }}", "modeling_x.py": b"pass", "README.md": b"#", "LICENSE": b"free", "LICENSE.rst": b"free",
    "NOTICE": b"n", "empty.txt": b"",
}  # fmt: skip
NEVER = [".hidden.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "x.index.json", "LICENSE.pt", "LICENSE.pth",
         "LICENSE.ckpt", "LICENSE.distcp", "LICENSE.gguf", "NOTICE.onnx", "LICENSE.safetensors"]  # fmt: skip
UNKNOWN = ["train.log", "license", "sub/config.json", "dir.json/config.json", "optimizer.state"]


def put(directory, files):
    for name, data in files.items() if isinstance(files, dict) else [(n, n) for n in files]:
        oracle.write(os.path.join(directory, name), data)


# What is chosen of every kind of tree: tests/unit/test_assets.c.
# ---- from where -----------------------------------------------------------------------------------


def test_beside_the_shards(sharded, weld):
    ckpt, src, out = sharded
    put(src, TOP)
    put(src, [n for n in NEVER if n != "LICENSE.safetensors"])
    put(src, UNKNOWN)
    before = oracle.tree(src)
    ok(weld(src, out, np=3))
    same(out, {**ckpt.expect(), **TOP})
    assert oracle.tree(src) == before


def test_in_the_metadata(sharded, weld):
    """All of it, and nothing from beside the shards."""
    ckpt, src, out = sharded
    files = {"config.json": b"{}", "a/b/c.bmp": b"bmp" * 3000, "vocab": b"v", "a-b": b"", "README.md": b"r"}
    put(src, {"config.json": b"other", "tokenizer.json": b"[]"})
    put(src / ".hf_metadata", files)
    put(src / ".hf_metadata", [*NEVER, "a/x.safetensors", "a/.git/config", "a/.x"])
    write_json(src / ".hf_metadata" / "fqn_to_file_index_mapping.json", {n: 1 for n in ckpt.tensors})
    write_json(src / ".hf_metadata" / "fqn_to_dtype_mapping.json", {})
    ok(weld(src, out, "--buffer-size=4KiB", np=2))
    same(out, {**ckpt.expect(), **files})


def test_assets(sharded, weld, tmp_path):
    ckpt, src, out = sharded
    put(src, {"config.json": b"{}"})
    put(src / ".hf_metadata", {"config.json": b"{}"})
    files = {"tokenizer.json": b"[]", "onnx/x.dat": b"d", "train.log": b"l"}
    put(tmp_path / "as", {**files, **{n: "x" for n in NEVER}})
    (tmp_path / "as" / "hollow").mkdir()
    ok(weld(src, out, "--assets", tmp_path / "as"))
    same(out, {**ckpt.expect(), **files})


@pytest.mark.parametrize("metadata", [False, True])
def test_no_assets(sharded, weld, metadata):
    ckpt, src, out = sharded
    put(src, {"config.json": b"{}"})
    if metadata:
        put(src / ".hf_metadata", {"tokenizer.json": b"{}"})
    fails(weld(src, out, "--no-assets", "--assets", src), 2, "no-assets")
    ok(weld(src, out, "--no-assets"))
    same(out, ckpt.expect())


@pytest.mark.parametrize("kind", ["missing", "file", "dangling", "empty"])
def test_assets_that_are_no_directory(sharded, weld, tmp_path, kind):
    _, src, out = sharded
    oracle.write(str(tmp_path / "file"), b"x")
    (tmp_path / "dangling").symlink_to("nowhere")
    fails(weld(src, out, f"--assets={'' if kind == 'empty' else tmp_path / kind}"), 2, *([kind] if kind != "empty" else ["assets"]))
    assert not out.exists()


def test_links(sharded, weld, tmp_path):
    """To files, as in a cache of downloads, with a word where they leave the directory; not to directories, and not to nowhere."""
    ckpt, src, out = sharded
    put(tmp_path / "blobs", {"1": b"one", "d/2": b"two"})
    (tmp_path / "as" / "sub").mkdir(parents=True)
    (tmp_path / "as" / "config.json").symlink_to("../blobs/1")
    (tmp_path / "as" / "sub" / "d").symlink_to("../../blobs/d")
    (tmp_path / "as" / "sub" / "up").symlink_to("..")
    (tmp_path / "as" / "gone.json").symlink_to("nowhere")
    os.mkfifo(tmp_path / "as" / "pipe.json")
    result = weld(src, out, "--assets", tmp_path / "as", np=2)
    warns(result, 5, "as/config.json is a link to a file outside", "sub/d is a link to a directory", "sub/up is", "gone.json", "pipe.json")
    same(out, {**ckpt.expect(), "config.json": b"one"})
    assert not (out / "config.json").is_symlink()
    ok(weld(src, out, "-q", "--overwrite", "--assets", tmp_path / "as"))


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("where", ["etc", "."])
def test_planted_links_bring_no_directory_of_ours(sharded, weld, tmp_path, where):
    """Not as .hf_metadata/etc, nor as .hf_metadata itself; and what only its owner may read stays so, also where it is edited."""
    ckpt, src, out = sharded
    put(tmp_path / "theirs", {"passwd": b"x", "a/shadow": b"y"})
    put(src, {"config.json": b'{"dtype": "float32"}', "tokenizer.json": b"[]"})
    if where == "etc":
        put(src / ".hf_metadata", {"config.json": b'{"dtype": "float32"}', "tokenizer.json": b"[]", "fqn_to_dtype_mapping.json": b"{}"})
        (src / ".hf_metadata" / "etc").symlink_to(tmp_path / "theirs")
    else:
        (src / ".hf_metadata").symlink_to(tmp_path / "theirs")
    for path in src.rglob("*.json"):
        path.chmod(0o600 if path.name != "tokenizer.json" else 0o444)
    old = os.umask(0o002)
    try:
        warns(weld(src, out, "--single-file", np=2), 1, "is a link to a directory: it is left out")
        same(out, {**ckpt.expect({n: oracle.SINGLE for n in ckpt.tensors}, None), "config.json": b'{"dtype": "float32"}', "tokenizer.json": b"[]"})
        assert (mode_of(out / "config.json"), mode_of(out / "tokenizer.json"), mode_of(out / oracle.SINGLE)) == (0o600, 0o444, 0o664)
        ok(weld(src, out, "-q", "--single-file", "--overwrite", "--cast-dtype", "bf16"))
        assert mode_of(out / "config.json") == 0o600 and b"bfloat16" in (out / "config.json").read_bytes()
        cut = run(["reshard", "-q", "--ranks", "2", "--cast-dtype", "bf16", src, tmp_path / "cut"])
        assert cut.status == 0, show(cut)
        names = ["config.json"] if where == "." else [".hf_metadata/config.json", ".hf_metadata/fqn_to_dtype_mapping.json"]
        assert {mode_of(tmp_path / "cut" / name) for name in names} == {0o600}
    finally:
        os.umask(old)


def test_of_rank_0_where_each_rank_has_a_directory_of_its_own(dirs, make, weld, tmp_path):
    src, out = dirs
    ckpt = make(src, ranks=2)
    for rank, path in enumerate(sorted(src.glob("*.safetensors"))):
        put(tmp_path / "local" / str(rank), {path.name: path.read_bytes(), "config.json": b"%d" % rank, f"{rank}.json": b"x"})
    prefix = ["sh", os.path.join(os.path.dirname(__file__), "by_rank.sh")]
    ok(weld(tmp_path / "local" / "@RANK@", out, "--node-local", "--expect-shards=2", np=2, prefix=prefix))
    same(out, {**ckpt.expect(), "config.json": b"0", "0.json": b"x"})


# ---- to where -------------------------------------------------------------------------------------


def test_those_that_exist_are_replaced(sharded, weld, tmp_path):
    """Without a word: they are no checkpoint. All else in OUTPUT_DIR stays."""
    ckpt, src, out = sharded
    put(src, {"config.json": b"new", "tokenizer.json": b"new"})
    put(out, {"config.json": b"old and longer", "notes.md": b"mine", "sub/tokenizer.json": b"mine"})
    oracle.write(str(tmp_path / "elsewhere"), b"linked")
    (out / "tokenizer.json").symlink_to(tmp_path / "elsewhere")
    ok(weld(src, out))
    same(out, {**ckpt.expect(), "config.json": b"new", "tokenizer.json": b"new", "notes.md": b"mine", "sub/tokenizer.json": b"mine"})
    assert (tmp_path / "elsewhere").read_bytes() == b"linked" and not (out / "tokenizer.json").is_symlink()


def test_modes(sharded, weld):
    _, src, out = sharded
    put(src / ".hf_metadata", {"config.json": b"{}", "sub/run.py": b"x"})
    (src / ".hf_metadata" / "config.json").chmod(0o600)
    (src / ".hf_metadata" / "sub" / "run.py").chmod(0o755)
    ok(weld(src, out, "--cast-dtype=bf16", prefix=["sh", "-c", 'umask 027; exec "$0" "$@"']))
    modes = {p.relative_to(out).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in out.rglob("*")}
    assert (modes["config.json"], modes["sub/run.py"], modes["sub"]) == (0o600, 0o640, 0o750), modes


def test_nothing_is_copied_when_the_run_fails(sharded, weld):
    _, src, out = sharded
    put(src, {"config.json": b"new"})
    put(out, {"config.json": b"old"})
    (src / oracle.shard_name(2)).write_bytes(b"short")
    fails(weld(src, out, np=2), 3)
    same(out, {"config.json": b"old"})


def test_dry_run_copies_nothing(sharded, weld):
    _, src, out = sharded
    put(src, TOP)
    result = weld(src, out, "-n")
    assert result.status == 0 and result.stderr == "" and not out.exists(), show(result)
    for name in TOP:
        assert name in result.stdout, show(result)


@pytest.mark.parametrize("how", ["same directory", "assets", "link", "hard link"])
def test_a_file_onto_itself(sharded, weld, how):
    ckpt, src, out = sharded
    if how == "same directory":
        put(src, {"config.json": b"{}", "LICENSE": b"l"})
        before = oracle.tree(src)
        warns(weld(src, src), 1, "transformers")
        same(src, {**before, **ckpt.expect()})
        return
    put(out, {"config.json": b"{}"})
    if how == "link":
        (src / "config.json").symlink_to(out / "config.json")
    if how == "hard link":
        os.link(out / "config.json", src / "config.json")
    ok(weld(src, out, *(["--assets", out] if how == "assets" else [])))
    same(out, {**ckpt.expect(), "config.json": b"{}"})


def test_output_inside_the_assets(sharded, weld, tmp_path):
    """It is not copied into itself."""
    ckpt, src, _ = sharded
    put(tmp_path / "as", {"config.json": b"{}", "sub/x": b"x"})
    out = tmp_path / "as" / "out"
    for options in ([], ["--overwrite"]):
        ok(weld(src, out, "--assets", tmp_path / "as", *options))
        same(out, {**ckpt.expect(), "config.json": b"{}", "sub/x": b"x"})


def test_they_come_with_the_next_run_too(sharded, weld):
    """OUTPUT_DIR is an ordinary input: of a plain checkpoint the files come along as well."""
    ckpt, src, out = sharded
    put(src, TOP)
    ok(weld(src, out))
    ok(weld(out, out.parent / "again"))
    same(out.parent / "again", {**ckpt.expect(), **TOP})


# ---- config.json ----------------------------------------------------------------------------------


CONFIG = """{
  "architectures": ["X"],  "rope":  {"factor": Infinity, "low": -Infinity, "nan": NaN},
\t"big": 123456789012345678901234567890,   "small": 1e-05, "z": 0.10, "é": "\\u00e9",
  "torch_dtype" : "%s",
  "dtype":"torch.%s",
  "text_config": {"dtype": "%s", "sub_config": {"torch_dtype":"%s"}, "other": {"dtype": "float32"}},
  "quantization": {"dtype": "float32"}, "list_config": [{"dtype": "float32"}],
  "vision_config": {"dtype": "int8", "torch_dtype": null}%s
}
"""
QUANTIZED = ',\n  "quantization_config": {\n    "quant_method": "fp8",\n    "weight_block_size": [128, 128]\n  }'


def config(dtype, more=""):
    return (CONFIG % (dtype, dtype, dtype, dtype, more)).encode()


def edited(dtype, more=""):
    """Set by an option: torch's name, without the prefix that loaders do not know."""
    return config(dtype, more).replace(b'"torch.', b'"')


def quantized(rng):
    return {**values.scaled_tensors(rng, "a", "F8_E4M3", (4, 4)), "b": values.hard_numbers(rng, "F32", (4,))}


# How any text is edited: tests/unit/test_config.c; which are left alone: tests/unit/test_assets.c.
@pytest.mark.parametrize(
    "options,text,want",
    [([], config("float32", QUANTIZED), config("float32", QUANTIZED)), (["--cast-dtype=bf16"], config("float32", QUANTIZED), edited("bfloat16", QUANTIZED)),
     (["--dequantize=fp16"], config("bfloat16", QUANTIZED), edited("float16")),
     (["--dequantize=bf16", "--cast-dtype=bf16"], config("float32", QUANTIZED), edited("bfloat16"))],
    ids=["copied", "cast", "dequantized", "both"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["top", ".hf_metadata", "--assets"])
def test_config(dirs, rng, make, weld, tmp_path, options, text, want, where):
    src, out = dirs
    make(src, tensors=quantized(rng))
    at = {"top": src, ".hf_metadata": src / ".hf_metadata", "--assets": tmp_path / "as"}[where]
    others = {"generation_config.json": text, **({"sub/config.json": text} if where != "top" else {})}
    put(at, {"config.json": text, **others})
    ok(weld(src, out, *options, *(["--assets", at] if where == "--assets" else [])))
    got = {n: d for n, d in oracle.tree(out).items() if not n.startswith("model")}
    assert oracle.difference(got, {"config.json": want, **others}) == ""


def test_config_that_stays(sharded, weld):
    """Into the input's own directory: its config.json is not copied, so it is not edited either."""
    ckpt, src, _ = sharded
    put(src, {"config.json": config("float32")})
    before = oracle.tree(src)
    result = weld(src, src, "--cast-dtype=bf16")
    assert result.status == 0 and not errors(result) and "transformers" in result.stderr, show(result)
    want = values.cast_all(ckpt.tensors, "BF16")
    same(src, {**before, **oracle.consolidated(want, oracle.numbered({n: 1 for n in want}))})


# ---- --diffusers ----------------------------------------------------------------------------------


def diffusers(files):
    return {n: f.replace("model", DIFFUSERS, 1) for n, f in files.items()}


@pytest.mark.parametrize("option", ["--diffusers", "--diffusers-index"])
@pytest.mark.parametrize("kind", ["names", "metadata", "--fqn-map", "--max-shard-size", "plain"])
def test_diffusers(dirs, rng, make, weld, tmp_path, kind, option):
    """With the second the files keep their names, also where the input's own index has the other one; --verify knows."""
    src, out = dirs
    numbers = {f"t{i}": 2 if i % 2 else 5 for i in range(6)}
    tensors = {n: oracle.random_tensor(rng, "F32", (5, 3)) for n in numbers}
    files, options = oracle.numbered(numbers), []
    if kind == "plain":
        oracle.write_plain(str(src), tensors, files, oracle.INDEX)
    else:
        make(src, tensors=tensors, models=numbers if kind == "names" else None)
    if kind in ("metadata", "--fqn-map"):
        options = given(src, tmp_path, kind, numbers)
    if kind == "--max-shard-size":
        files, options = oracle.by_size(tensors, 130)[0], ["--max-shard-size=130"]
    ok(weld(src, out, option, "--verify", *options, np=2 if kind == "names" else None), quiet=kind != "names")  # there numbers are missed
    same(out, oracle.consolidated(tensors, diffusers(files) if option == "--diffusers" else files, f"{DIFFUSERS}.safetensors.index.json"))


def test_diffusers_not_with_like(sharded, weld, tmp_path):
    ckpt, src, out = sharded
    like = write_index(tmp_path / "x.index.json", {n: "x.safetensors" for n in ckpt.tensors})
    for option in ("--diffusers", "--diffusers-index"):
        fails(weld(src, out, option, "--like", like), 2, "--diffusers", "like")
    assert not out.exists()


def test_diffusers_over_a_checkpoint_of_the_other_name(sharded, weld):
    """Neither may stand beside the other, lest a loader take the wrong one."""
    ckpt, src, out = sharded
    ok(weld(src, out))
    before = oracle.tree(out)
    fails(weld(src, out, "--diffusers"), 2, "--overwrite")
    same(out, before)
    ok(weld(src, out, "--diffusers", "--overwrite"))
    want = ckpt.expect(diffusers(oracle.numbered({n: 1 for n in ckpt.tensors})), f"{DIFFUSERS}.safetensors.index.json")
    same(out, want)


# ---- --like ---------------------------------------------------------------------------------------


def test_like_with_odd_names(sharded, weld, tmp_path):
    """As some models were published; the side files come along and keep out of the way."""
    ckpt, src, out = sharded
    names = ["model.safetensors-00001-of-00094.safetensors", "model.safetensors-00094-of-00094.safetensors", "text encoder/x.safetensors", "a/b/c.safetensors"]
    files = {n: names[i % 4] for i, n in enumerate(ckpt.tensors)}
    put(src, {"config.json": b"{}"})
    ok(weld(src, out, "--like", write_index(tmp_path / "like" / oracle.INDEX, files)))
    same(out, {**ckpt.expect(files), "config.json": b"{}"})


@pytest.mark.parametrize("name", ["weird", "model.safetensors.json"])
def test_like_is_an_index_by_its_name(sharded, weld, tmp_path, name):
    ckpt, src, out = sharded
    like = write_index(tmp_path / name, {n: "x.safetensors" for n in ckpt.tensors})
    fails(weld(src, out, "--like", like), 2, name, "*.index.json")


def test_like_an_index_of_a_variant(sharded, weld, tmp_path):
    ckpt, src, out = sharded
    name = "model.safetensors.index.fp16.json"
    files = {n: "model.fp16.safetensors" for n in ckpt.tensors}
    ok(weld(src, out, "--like", write_index(tmp_path / name, files)))
    same(out, ckpt.expect(files, name))


# ---- what is in the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("name, np", [("x:y/o", 3), ("2026-11-21T10:30:00", None)])
def test_colons(sharded, weld, tmp_path, np, name):
    ckpt, src, _ = sharded
    files = {n: "sub:d/a:b.safetensors" for n in ckpt.tensors}
    ok(weld(src, tmp_path / name, np=np))
    same(tmp_path / name, ckpt.expect())
    ok(weld(src, tmp_path / name, "--overwrite", "--like", write_index(tmp_path / oracle.INDEX, files), np=np))
    same(tmp_path / name, ckpt.expect(files))


def test_assets_do_not_replace_the_inputs_files(make, weld, tmp_path):
    """INPUT_DIR may lie in OUTPUT_DIR."""
    out, src = tmp_path / "nest", tmp_path / "nest" / "sharded"
    make(src)
    put(src, {"tokenizer.json": b"theirs"})
    put(tmp_path / "as", {"sharded/tokenizer.json": b"another"})
    before = oracle.tree(out)
    fails(weld(src, out, "--assets", tmp_path / "as"), 2, "sharded/tokenizer.json", "the input's directory")
    same(out, before)


@pytest.mark.parametrize("name", [oracle.model_name(1, 1) + "/x.json", oracle.INDEX + "/x.json"])
def test_assets_that_clash_with_the_output(sharded, weld, tmp_path, name):
    _, src, out = sharded
    put(tmp_path / "as", {name: b"{}"})
    fails(weld(src, out, "--assets", tmp_path / "as"), 2, name, "another file of the output")
    assert not out.exists()


def test_like_that_clashes_with_a_side_file(sharded, weld, tmp_path):
    ckpt, src, out = sharded
    put(src, {"config.json": b"{}"})
    like = write_index(tmp_path / oracle.INDEX, {n: "config.json/y.safetensors" for n in ckpt.tensors})
    fails(weld(src, out, "--like", like), 2, "config.json/y.safetensors")


def test_a_directory_of_too_many_names(sharded, weld, tmp_path):
    _, src, out = sharded
    put(tmp_path / "as", [str(i) for i in range(4)])
    for i in range(4, 100_001):
        os.link(tmp_path / "as" / str(i % 4), tmp_path / "as" / str(i))
    fails(weld(src, out, "--assets", tmp_path / "as", "-q"), 2, "over 100000 names")
