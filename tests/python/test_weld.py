"""Torch's functions without torch: alone, and by the ranks of an MPI job."""

import json
import sys

import numpy as np
import oracle
import pytest
import ranks
import shardweld
import welding
from welding import FILES


@pytest.mark.parametrize("np", [None, 3])
def test_the_same_under_every_launcher(np, checkpoint, tmp_path):
    def job(cases):
        done, said = ranks.job(tmp_path, cases, ranks.mpirun(np), np or 1)
        assert done.status == 0, done.stderr
        return said

    welding.run_trials(welding.trials(checkpoint, tmp_path, np or 1), job)


@pytest.mark.parametrize("quietly", [False, True])
def test_a_rank_that_ends_before_the_call_takes_the_job_along(quietly, checkpoint, tmp_path):
    """The others are in the first collective call by then."""
    case = welding.case(checkpoint.path, tmp_path / "out")
    done, said = ranks.job(tmp_path, [case], ranks.mpirun(2), 2, ends=[1], quietly=quietly)
    assert done.status != 0
    assert said[1] is None
    assert quietly or "this rank has an error of its own" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_error_after_a_call_does_not_wait_for_the_others(checkpoint, tmp_path):
    """MPI has been initialised by then, and the other rank is in another call."""
    program = (
        "import sys, shardweld\n"
        "from shardweld._comm import open_comm\n"
        "with open_comm() as group:\n"
        "    group.gather(0)\n"
        "    if group.rank == 1: raise ValueError('alone')\n"
        "    group.gather(0)\n"
    )
    done = ranks.run([*ranks.mpirun(2), sys.executable, "-c", program])
    assert done.status != 0 and "ValueError: alone" in done.stderr


def test_alone_the_library_is_called_by_one_process(checkpoint, tmp_path):
    """Torch's writers call this one on one rank only, under any launcher."""
    case = welding.case(checkpoint.path, tmp_path / "out", call="consolidate_safetensors_files")
    other = welding.case(checkpoint.path, tmp_path / "other", call="consolidate_safetensors_files")
    case["ranks"] = {"1": other["args"]}
    done, said = ranks.job(tmp_path, [case], ranks.mpirun(2), 2)
    assert done.status == 0, done.stderr
    assert [one[0].get("ok") for one in said] == [True, True]
    for name in ("out", "other"):
        assert not oracle.difference(oracle.tree(tmp_path / name), checkpoint.expect())


@pytest.mark.parametrize("call", ["weld(src, out)", "consolidate_safetensors_files_on_every_rank(src, out, None)"])
def test_fewer_shards_than_processes(call, checkpoint, tmp_path):
    """Who welds has mostly saved: the end may be missing. With as many, and where the set lists its files, there is nothing to say."""
    words = f"{checkpoint.path}: the highest shard number is 4, but 5 processes are here"
    own = tmp_path / "own"
    shardweld.reshard(checkpoint.path, own, "4", comm="self")
    cases = [(5, checkpoint.path, 1), (4, checkpoint.path, 0), (5, own, 0)]
    for np, src, told in cases if call.startswith("weld") else cases[:1]:
        program = f"import shardweld\nsrc, out = {str(src)!r}, {str(tmp_path / f'{np}{told}')!r}\nshardweld.{call}"
        done = ranks.run([*ranks.mpirun(np), sys.executable, "-c", program])
        assert done.status == 0 and done.stderr.count(words) == told, done.stderr


def as_dtype(tensor, dtype, numpy_dtype):
    values = np.frombuffer(tensor.data, "<f4").astype(numpy_dtype)
    return oracle.Tensor(dtype, tensor.shape, values.tobytes())


@pytest.fixture
def floats(tmp_path, rng):
    tensors = {}
    for name in ("x", "y", "z"):
        values = rng.standard_normal((6, 4)).astype("<f4")
        tensors[name] = oracle.Tensor("F32", (6, 4), values.tobytes())
    boxes = {n: oracle.boxes_of(t.shape, (2,), (0,)) for n, t in tensors.items()}
    oracle.write_sharded(tmp_path / "floats", tensors, boxes)
    return str(tmp_path / "floats"), tensors


def test_cast_dtype_as_torch_spells_it(floats, tmp_path):
    src, tensors = floats
    want = {n: as_dtype(t, "F16", "<f2") for n, t in tensors.items()}
    for word in ("fp16", "float16", "torch.float16", "torch.half", "FP16"):
        shardweld.consolidate_safetensors_files(src, tmp_path / word, {n: 1 for n in tensors}, cast_dtype=word)
        assert not oracle.difference(oracle.tree(tmp_path / word), oracle.consolidated(want, oracle.numbered({n: 1 for n in want})))


def test_the_map_of_dtypes(floats, tmp_path):
    src, tensors = floats
    files = {n: 1 for n in tensors}
    shardweld.consolidate_safetensors_files(
        src, tmp_path / "out", files, fqn_to_dtype_mapping={"x": "torch.float16", "y": "F64", "z": "I8"}
    )
    want = {"x": as_dtype(tensors["x"], "F16", "<f2"), "y": as_dtype(tensors["y"], "F64", "<f8"), "z": tensors["z"]}
    assert not oracle.difference(oracle.tree(tmp_path / "out"), oracle.consolidated(want, oracle.numbered(files)))
    shardweld.consolidate_safetensors_files(
        src, tmp_path / "cast", files, cast_dtype="fp16", fqn_to_dtype_mapping={"x": "F32", "y": "BF16"}
    )
    want = {"x": tensors["x"], **{n: as_dtype(tensors[n], "F16", "<f2") for n in "yz"}}
    assert not oracle.difference(oracle.tree(tmp_path / "cast"), oracle.consolidated(want, oracle.numbered(files)))


def test_without_a_map_the_dtypes_that_stand_beside_the_shards_do_not_count(floats, tmp_path):
    """As the originals, which are told by their caller."""
    src, tensors = floats
    oracle.write_json(tmp_path / "floats" / ".hf_metadata" / "fqn_to_dtype_mapping.json", {"x": "F16"})
    files = {n: 1 for n in tensors}
    shardweld.consolidate_safetensors_files(src, tmp_path / "out", files)
    assert not oracle.difference(oracle.tree(tmp_path / "out"), oracle.consolidated(tensors, oracle.numbered(files)))


def test_warnings_go_to_the_log(checkpoint, tmp_path, caplog):
    """And a map may hold numpy's numbers."""
    files = {**{n: np.int64(j) for n, j in FILES.items()}, "lm_head.weight": np.int64(1)}
    shardweld.consolidate_safetensors_files(checkpoint.path, tmp_path / "out", files)
    assert any("lm_head.weight" in record.message for record in caplog.records if record.levelname == "WARNING")
    assert not oracle.difference(oracle.tree(tmp_path / "out"), checkpoint.expect())


def test_weld_is_the_whole_program(checkpoint, tmp_path):
    seen = []
    result = shardweld.weld(
        checkpoint.path,
        tmp_path / "out",
        single_file=True,
        include=["*.weight"],
        exclude="embed*",
        name_rules=[("rename", "a.", "first.")],
        buffer_size="1MiB",
        verify=True,
        progress=lambda done, total: seen.append((done, total)),
    )
    names = {"first.weight": "a.weight", "b.weight": "b.weight", "c.weight": "c.weight"}
    want = oracle.serialize({new: checkpoint.tensors[old] for new, old in names.items()})
    assert oracle.tree(tmp_path / "out") == {"model.safetensors": want, **welding.SIDE}
    assert (result.files, result.index) == ([("model.safetensors", 3, len(want))], None)
    assert sorted(result.assets) == sorted(welding.SIDE)
    assert result.stats["buffer_size"] == 1 << 20 and result.stats["assign"] == "band"
    assert seen and seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"no_such_option": 1}, "no_such_option"),
        ({"assign": "nobody"}, "nobody"),
        ({"buffer_size": "many"}, "many"),
        ({"buffer_size": -1}, "-1"),
        ({"buffer_size": 1}, "too small"),
        ({"name_rules": [("strip",)]}, "strip"),
        ({"fqn_map_text": "{}", "single_file": True}, "only one of"),
        ({"fqn_map_text": "["}, "the map of names"),
        ({"dtype_map_text": "["}, "the dtype map"),
        ({"assets": "/", "no_assets": True}, "assets does not go with no_assets=True"),
        ({"cancel": 1}, "cancel"),
        ({"include": [3]}, "3: expected a str"),
        ({"fqn_map_text": {}}, "expected a str"),
    ],
)
def test_options_that_make_no_sense(options, words, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=words):
        shardweld.weld(checkpoint.path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("np", [None, 2])
def test_reshard_and_weld_again(np, checkpoint, tmp_path):
    mesh = {"input_dir": checkpoint.path, "output_dir": str(tmp_path / "three"), "mesh": "3x1", "rules": ["a.*=shard1,replicate"]}
    wrong = {**mesh, "output_dir": str(tmp_path / "none"), "mesh": "0x1"}
    back = {"input_dir": mesh["output_dir"], "output_dir": str(tmp_path / "out"), "fqn_map_text": json.dumps(FILES)}
    cases = [{"call": "reshard", "args": mesh}, {"call": "reshard", "args": wrong}, {"call": "weld", "args": back}]
    done, said = ranks.job(tmp_path, cases, ranks.mpirun(np), np or 1)
    assert done.status == 0, done.stderr
    for first, second, third in said:
        assert first.get("ok") and second["error"] == "UsageError" and third.get("ok"), said
        assert len(first["files"]) == 3
    assert not oracle.difference(oracle.tree(tmp_path / "out"), {**checkpoint.expect(), **welding.SIDE})


def test_the_cure_is_told_in_python(checkpoint, tmp_path, caplog):
    """What the library calls sw_options.overwrite, in errors and in warnings."""
    shardweld.weld(checkpoint.path, tmp_path / "out")
    with pytest.raises(shardweld.UsageError, match="; overwrite=True replaces it"):
        shardweld.weld(checkpoint.path, tmp_path / "out")
    shardweld.weld(checkpoint.path, tmp_path / "out", dry_run=True)
    assert "already: overwrite=True will be needed" in caplog.text


@pytest.fixture
def long_checkpoint(tmp_path, rng):
    tensor = {"w": oracle.random_tensor(rng, "U8", (64 << 20,))}
    oracle.write_sharded(tmp_path / "in", tensor, {"w": oracle.boxes_of((64 << 20,), (2,), (0,))})
    return str(tmp_path / "in")


def test_sigterm_ends_a_long_call_and_leaves_nothing(long_checkpoint, tmp_path):
    """As a job that is cancelled, or torchrun that closes its workers: the process dies of it, but not before it has cleaned up."""
    program = (
        "import os, signal, sys, shardweld\n"
        "sent = []\n"
        "def end(done, total):\n"
        "    if 0 < done < total and not sent:\n"
        "        sent.append(os.kill(os.getpid(), signal.SIGTERM))\n"
        "shardweld.weld(sys.argv[1], sys.argv[2], progress=end, buffer_size=4096, verify=True)\n"
    )
    done = ranks.run([sys.executable, "-c", program, long_checkpoint, str(tmp_path / "out")])
    assert done.status == -15 and not (tmp_path / "out").exists(), done


def test_a_child_of_a_rank_is_no_rank(checkpoint, tmp_path):
    """It ends without MPI_Finalize, in which it would wait for ever."""
    program = (
        "import os, sys, shardweld\n"
        "shardweld.weld(sys.argv[1], sys.argv[2])\n"
        "child = os.fork()\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = ranks.run([*ranks.mpirun(2), sys.executable, "-c", program, checkpoint.path, str(tmp_path / "out")])
    assert done.status == 0, done.stderr


def test_names_are_utf_8_in_any_locale(tmp_path):
    tensors = {"schön.weight": oracle.Tensor("U8", (2,), b"ab")}
    oracle.write_sharded(tmp_path / "in", tensors, {n: [oracle.whole((2,))] for n in tensors})
    program = (
        "import sys, shardweld\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "shardweld.consolidate_safetensors_files(sys.argv[1], sys.argv[2], {'sch\\xf6n.weight': 1})\n"
        "assert list(shardweld.Checkpoint(sys.argv[2])) == ['sch\\xf6n.weight']\n"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = ranks.run([sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")], **plain)
    assert done.status == 0, done.stderr
