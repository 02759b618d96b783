"""Directories that lie in one another, links, indices that name anything, files that are no files: the input is never
lost, and nothing waits for what never comes."""

import json
import os
import shutil

import oracle
import pytest
from runner import HERE, fails, ok, run, show, warnings

INDEX = oracle.INDEX


def names(directory):
    return sorted(os.path.relpath(os.path.join(d, f), directory) for d, _, files in os.walk(directory) for f in files)


def plain(directory, rng, files):
    """A plain checkpoint, one tensor a file: {file: fqn}."""
    tensors = {fqn: oracle.random_tensor(rng, "F32", (4, 3)) for fqn in files.values()}
    oracle.write_plain(str(directory), tensors, {fqn: name for name, fqn in files.items()})
    return tensors


def weight_map(path, **files):
    oracle.write_json(str(path), {"weight_map": files})


def test_output_inside_input_whose_index_names_files_there(tmp_path, rng, weld):
    src, out = tmp_path / "p", tmp_path / "p" / "cons"
    plain(out, rng, {"model-00001-of-00002.safetensors": "a", "model-00002-of-00002.safetensors": "b"})
    weight_map(src / INDEX, a="cons/model-00001-of-00002.safetensors", b="cons/model-00002-of-00002.safetensors")
    before = oracle.tree(src)
    ok(weld(src, out, "--overwrite", "--single-file"))
    after = oracle.tree(src)
    assert set(after) - set(before) == {"cons/model.safetensors"}
    assert all(after[name] == data for name, data in before.items())


def test_input_of_links_into_the_output(tmp_path, rng, weld):
    src, out = tmp_path / "in", tmp_path / "out"
    plain(out, rng, {"model-00001-of-00002.safetensors": "a", "model-00002-of-00002.safetensors": "b"})
    src.mkdir()
    for name in names(out):
        (src / name).symlink_to(f"../out/{name}")
    ok(weld(src, out, "--overwrite", "--single-file"))
    assert all((src / name).exists() for name in os.listdir(src))


def test_what_lies_beside_the_shards_stays(tmp_path, rng, make, weld):
    src, out = tmp_path / "p" / "sharded", tmp_path / "p"
    make(src)
    plain(src, rng, {"extra.safetensors": "y"})
    weight_map(out / INDEX, y="sharded/extra.safetensors")
    ok(weld(src, out, "-q", "--overwrite"))
    assert (src / "extra.safetensors").exists()


def test_the_input_of_another_rank_stays(tmp_path, make):
    make(tmp_path / "whole")
    ok(run(["reshard", "--ranks", "2", tmp_path / "whole", tmp_path / "all"]))
    out, nodes = tmp_path / "out", [tmp_path / "n0", tmp_path / "out" / "n1"]
    for i, (shard, node) in enumerate(zip(sorted((tmp_path / "all").iterdir()), nodes)):
        node.mkdir(parents=True)
        shutil.copy(shard, node / f"p{i}.safetensors")
    weight_map(out / INDEX, a="n1/p1.safetensors")
    (tmp_path / "n1").symlink_to("out/n1")
    args = ["consolidate", "--node-local", "--overwrite", tmp_path / "n@RANK@", out]
    ok(run(args, np=2, prefix=["sh", os.path.join(HERE, "by_rank.sh")]))
    assert (out / "n1" / "p1.safetensors").exists()


@pytest.mark.parametrize("name", [INDEX, ".hf_metadata/fqn_to_file_index_mapping.json", ".hf_metadata/fqn_to_dtype_mapping.json"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "dangling"])
def test_a_side_file_that_is_no_file(tmp_path, rng, weld, name, kind):
    src, out = tmp_path / "in", tmp_path / "out"
    plain(src, rng, {"a.safetensors": "a"})
    (src / name).parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(src / name)
    elif kind == "directory":
        (src / name).mkdir()
    else:
        (src / name).symlink_to("nowhere")
    fails(weld(src, out), 3, name)
    assert not out.exists()


def test_an_option_file_may_be_a_pipe_but_no_directory(tmp_path, sharded, weld):
    ckpt, src, out = sharded
    read, write = os.pipe()
    os.write(write, json.dumps({fqn: 1 for fqn in ckpt.tensors}).encode())
    os.close(write)
    ok(run(["consolidate", "--fqn-map", f"/dev/fd/{read}", src, out], pass_fds=[read]))
    os.close(read)
    fails(weld(src, tmp_path / "out2", "--fqn-map", tmp_path), 3, "directory")


@pytest.mark.parametrize("name", ["shard-00001-model-00001-of-00001.safetensors", INDEX])
def test_a_report_never_takes_the_place_of_a_checkpoints_file(sharded, weld, name):
    _, src, out = sharded
    before = oracle.tree(src)
    fails(weld(src, out, "--report", src / name), 2, "report")
    assert oracle.tree(src) == before


def test_an_index_of_another_name_is_replaced_too(tmp_path, make, weld):
    src, out, like = tmp_path / "in", tmp_path / "out", tmp_path / "model.safetensors.index.fp16.json"
    ckpt = make(src)
    weight_map(like, **{fqn: "weights.fp16.safetensors" for fqn in ckpt.tensors})
    ok(weld(src, out, "--like", like))
    fails(weld(src, out, "--like", like), 2, "--overwrite")
    ok(weld(src, out, "--like", like, "--overwrite"))
    assert names(out) == ["model.safetensors.index.fp16.json", "weights.fp16.safetensors"]


def test_overwrite_takes_what_an_index_names_inside_whatever_else_it_names(tmp_path, rng, sharded, weld):
    _, src, out = sharded
    plain(out, rng, {"part/x.safetensors": "a"})
    plain(tmp_path, rng, {"o.safetensors": "b"})
    weight_map(out / INDEX, a="part/x.safetensors", b="../o.safetensors")
    ok(weld(src, out, "--overwrite"))
    assert not (out / "part").exists() and (tmp_path / "o.safetensors").exists()


def test_a_warning_is_one_clean_line(tmp_path, sharded, weld):
    ckpt, src, out = sharded
    oracle.write_json(str(tmp_path / "m.json"), {**{fqn: 1 for fqn in ckpt.tensors}, "tied\n\x1b[31m": 1})
    result = weld(src, out, "--fqn-map", tmp_path / "m.json")
    ok(result, quiet=False)
    assert len(warnings(result)) == 1 and "\x1b" not in result.stderr, show(result)


def test_an_index_may_spell_its_names_and_numbers_oddly(tmp_path, rng, weld):
    src, out = tmp_path / "in", tmp_path / "out"
    tensors = plain(src, rng, {"sub/a.safetensors": "a"})
    text = '{"metadata":{"total_size":123456789012345678901234567890},"weight_map":{"a":"./sub//a.safetensors"}}'
    oracle.write(str(src / INDEX), text.encode())
    ok(weld(src, out))
    assert oracle.difference(oracle.tree(out), oracle.consolidated(tensors, {"a": "sub/a.safetensors"})) == ""
