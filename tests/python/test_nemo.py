"""python -m shardweld.nemo: the options and the habits of NeMo Automodel's tool."""

import json
import os
import sys

import numpy as np
import oracle
import pytest
import ranks
import welding

FILE = os.path.join(ranks.PYTHON, "shardweld", "nemo.py")
AS_MODULE = [sys.executable, "-m", "shardweld.nemo"]


@pytest.fixture
def model(checkpoint):
    checkpoint.add_metadata()
    return checkpoint


def options(model, *more):
    out = os.path.join(model.path, "consolidated")
    return ["--model-name", "org/model", "--input-dir", model.path, "--output-dir", out, *more], out


def check(done, out, want):
    assert done.status == 0, done.stderr
    assert not oracle.difference(oracle.tree(out), want)


@pytest.mark.parametrize("np", [None, 1, 2, 4])
def test_the_side_files_come_along(np, model):
    given, out = options(model, "--num-threads", "5", "--backend", "gloo")
    for _ in range(2 if np is None else 1):  # and again, over what is there
        done = ranks.run([*ranks.mpirun(np), *AS_MODULE, *given])
        check(done, out, {**model.expect(), **welding.SIDE})
    assert done.stderr.count("welded") == 1 and done.stdout == ""


@pytest.mark.parametrize("np", [None, 2])
def test_as_a_file_by_its_path(np, model, tmp_path):
    """As CONSOLIDATION_TOOL, perhaps by a link; the package is found by where the file is, and hides no other module."""
    given, out = options(model)
    os.symlink(FILE, tmp_path / "tool.py")
    done = ranks.run([*ranks.mpirun(np), sys.executable, str(tmp_path / "tool.py") if np else FILE, *given], PYTHONPATH=None)
    check(done, out, {**model.expect(), **welding.SIDE})


def test_the_short_options(model):
    out = os.path.join(model.path, "consolidated")
    done = ranks.run([*AS_MODULE, "-m", "x", "-i", model.path, "-o", out])
    check(done, out, {**model.expect(), **welding.SIDE})


def test_for_diffusers_only_the_index_has_another_name(model):
    given, out = options(model)
    ranks.run([*AS_MODULE, *given])
    done = ranks.run([*AS_MODULE, *given, "--diffusers-compatible"])
    index = "diffusion_pytorch_model.safetensors.index.json"
    check(done, out, {**model.expect(index=index), **welding.SIDE})


@pytest.mark.parametrize("word", ["none", "None", "torch.none", ""])
def test_no_cast_restores_what_the_metadata_says(word, model):
    model.add_metadata({"a.weight": "F64", "b.weight": "F32"})
    given, out = options(model, "--cast-dtype", word)
    tensors = {**model.tensors, "a.weight": widened(model.tensors["a.weight"])}
    check(ranks.run([*AS_MODULE, *given]), out, {**model.expect(tensors=tensors), **welding.SIDE})


def widened(tensor):
    values = np.frombuffer(tensor.data, "<f4")
    bits = np.where(np.isnan(values), 0, values).astype("<f8").view("<u8")
    sign = (values.view("<u4").astype("<u8") >> 31) << 63
    return oracle.Tensor("F64", tensor.shape, np.where(np.isnan(values), sign | 0x7FF8 << 48, bits).astype("<u8").tobytes())


def test_a_cast_keeps_what_is_f32_by_nature(model):
    model.add_metadata({"a.weight": "F32", "b.weight": "BF16"})
    given, out = options(model, "--cast-dtype", "float64")
    done = ranks.run([*AS_MODULE, *given])
    assert done.status == 0, done.stderr
    dtypes = {}
    for data in (d for name, d in oracle.tree(out).items() if name.endswith(".safetensors")):
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        dtypes.update({name: entry["dtype"] for name, entry in header.items() if name != "__metadata__"})
    assert {n: dtypes[n] for n in ("a.weight", "b.weight", "d.bias")} == {"a.weight": "F32", "b.weight": "F64", "d.bias": "I64"}


def test_done_already(model):
    given, out = options(model)
    assert ranks.run([*AS_MODULE, *given]).status == 0
    before = oracle.tree(out)
    hidden = os.path.join(model.path, ".hf_metadata")
    os.rename(hidden, hidden + "-gone")
    done = ranks.run([*AS_MODULE, *given])
    assert done.status == 0 and "nothing to do" in done.stderr
    assert oracle.tree(out) == before


@pytest.mark.parametrize("np", [None, 2])
def test_neither_metadata_nor_result(np, checkpoint):
    given, _ = options(checkpoint)
    done = ranks.run([*ranks.mpirun(np), *AS_MODULE, *given])
    assert done.status == 3 and done.stderr.count("has no directory .hf_metadata") == 1


def test_shards_are_no_result(checkpoint):
    given = ["-m", "x", "-i", checkpoint.path, "-o", checkpoint.path]
    done = ranks.run([*AS_MODULE, *given])
    assert done.status == 3 and "no consolidated checkpoint" in done.stderr


def test_no_library(model):
    given, _ = options(model)
    done = ranks.run([*AS_MODULE, *given], SHARDWELD_LIBRARY="/nowhere")
    assert done.status == 1 and "libshardweld cannot be loaded" in done.stderr and "Traceback" not in done.stderr


def test_no_input(tmp_path):
    done = ranks.run([*AS_MODULE, "-m", "x", "-i", str(tmp_path / "no"), "-o", str(tmp_path / "out")])
    assert done.status == 3 and "no such directory" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more, words", [(["--cast-dtype", "int8"], "int8"), (["--backend", "mpi"], "mpi"), (["--what"], "--what")]
)
def test_wrong_usage(more, words, model):
    given, out = options(model, *more)
    done = ranks.run([*AS_MODULE, *given])
    assert done.status == 2 and words in done.stderr and not os.path.exists(out)


def test_a_broken_shard(model):
    path = os.path.join(model.path, oracle.shard_name(2))
    with open(path, "r+b") as f:
        f.truncate(20)
    given, out = options(model)
    done = ranks.run([*ranks.mpirun(2), *AS_MODULE, *given])
    assert done.status == 3 and done.stderr.count("shard-00002") == 1
