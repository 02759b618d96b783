"""Torch's functions, done by the library, where torch is: under torchrun and accelerate, and inside torch's own writer."""

import glob
import os
import sys

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint import _consolidate_hf_safetensors as original
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "python"), os.path.join(ROOT, "python")]
os.environ.setdefault("SHARDWELD_LIBRARY", os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build")))

import oracle  # noqa: E402
import ranks  # noqa: E402
import shardweld  # noqa: E402
import welding  # noqa: E402
from shardweld import _dropin  # noqa: E402

NEMO = os.path.join(ROOT, "python", "shardweld", "nemo.py")


@pytest.fixture
def checkpoint(tmp_path):
    return welding.Checkpoint(tmp_path / "in", np.random.default_rng(5))


# ---- launchers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [1, 4])
def test_under_torchrun(np, checkpoint, tmp_path):
    """The default process group; with four ranks also a group of two."""
    more, members = [], []
    if np == 4:
        members = [1, 3]
        part = welding.case(checkpoint.path, tmp_path / "part", process_group="GROUP")
        both = welding.case(checkpoint.path, tmp_path / "part", process_group="GROUP", comm="self")
        more = [welding.Trial("a group of two", part, checkpoint.expect()), welding.Trial("both", both, None, "UsageError")]

    def job(cases):
        done, said = ranks.job(tmp_path, cases, ranks.torchrun(np), np, comm="group" if members else "torch", members=members)
        assert done.status == 0, done.stderr
        return said

    welding.run_trials(welding.trials(checkpoint, tmp_path, np) + more, job)


def test_before_there_is_a_group_and_after_a_rank_has_left(checkpoint, tmp_path):
    """Two ranks in one job. Without a group the call is refused: torch's own function would let each process write everything. In the end one
    rank leaves in good order, so that torchrun lets the other go on: that one has to notice by itself."""
    before, after = (welding.case(checkpoint.path, tmp_path / name) for name in ("before", "after"))

    def job(cases):
        more = {"comm": "torch", "early": [before], "leaves": [1], "late": [after]}
        _, said = ranks.job(tmp_path, cases, ranks.torchrun(2), 2, **more)
        for one in said:
            refused = one.pop(0)
            assert refused["error"] == "UsageError" and "init_process_group" in refused["text"]
        left = said[0].pop()
        assert left["error"] == "CommError" and "RuntimeError" in left["kinds"]
        return said

    welding.run_trials(welding.trials(checkpoint, tmp_path, 2), job)
    assert not (tmp_path / "before").exists() and not (tmp_path / "after").exists()


def test_under_accelerate(checkpoint, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launcher += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "--no_python"]
    case = welding.case(checkpoint.path, tmp_path / "out")
    done, said = ranks.job(tmp_path, [case], launcher, 2, comm="accelerate")
    assert done.status == 0, done.stderr
    welding.Trial("accelerate", case, checkpoint.expect()).check([one[0] for one in said])


def test_a_rank_that_fails_before_the_call(checkpoint, tmp_path):
    """Torchrun ends the others."""
    case = welding.case(checkpoint.path, tmp_path / "out")
    done, said = ranks.job(tmp_path, [case], ranks.torchrun(2), 2, comm="torch", ends=[1])
    assert done.status != 0 and "this rank has an error of its own" in done.stderr
    assert said[1] is None and (said[0] is None or said[0][0]["error"] == "CommError")
    assert not (tmp_path / "out").exists()


# ---- beside the original -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Saved by torch, from one process."""
    path = str(tmp_path_factory.mktemp("saved"))
    generator = torch.Generator().manual_seed(3)
    state = {f"w{i}": torch.randn(8 + i, 5, generator=generator) for i in range(4)}
    state["norm"] = torch.randn(7, generator=generator).to(torch.bfloat16)
    dcp.save(state, storage_writer=HuggingFaceStorageWriter(path, save_distributed=True), no_dist=True)
    return path, state


def loaded(directory):
    out = {}
    for path in glob.glob(os.path.join(directory, "*.safetensors")):
        out.update(load_file(path))
    return out


def weight_map(directory):
    path = os.path.join(directory, "model.safetensors.index.json")
    return welding.read_json(path)["weight_map"] if os.path.exists(path) else None


@pytest.mark.parametrize("name", ["consolidate_safetensors_files", "consolidate_safetensors_files_on_every_rank"])
def test_the_same_call_the_same_checkpoint(name, sharded, tmp_path):
    src, state = sharded
    files = {fqn: 1 + i % 2 for i, fqn in enumerate(sorted(state))}
    results = []
    for module in (original, shardweld):
        out = tmp_path / module.__name__
        out.mkdir()
        assert getattr(module, name)(src, str(out), files, num_threads=2) is None
        results.append((weight_map(out), loaded(out)))
    (map_torch, tensors_torch), (map_ours, tensors_ours) = results
    # The form for every rank writes no index where there is no process group.
    assert map_ours == oracle.numbered(files) and map_torch in (map_ours, None)
    assert tensors_ours.keys() == tensors_torch.keys() == state.keys()
    assert all(torch.equal(tensors_ours[n], tensors_torch[n]) for n in state)


@pytest.fixture
def installed(monkeypatch):
    """install(), and the calls that came to ours."""
    calls, ours = [], shardweld.consolidate_safetensors_files

    def count(*args, **more):
        calls.append(args)
        return ours(*args, **more)

    before = {name: getattr(original, name) for name in ("consolidate_safetensors_files", "consolidate_safetensors_files_on_every_rank")}
    monkeypatch.setattr(_dropin, "consolidate_safetensors_files", count)
    replaced = shardweld.install()
    for where in (original.__name__, dcp.hf_storage.__name__):
        assert replaced[f"{where}.consolidate_safetensors_files"] is before["consolidate_safetensors_files"]
    yield calls
    shardweld.uninstall()
    assert all(getattr(original, name) is function for name, function in before.items())


@pytest.mark.parametrize("mapped", [True, False])
def test_inside_torch_s_own_writer(mapped, sharded, tmp_path, installed):
    """The writer calls ours when it finishes; so does transformers."""
    src, state = sharded
    files = {fqn: 1 + i % 2 for i, fqn in enumerate(sorted(state))} if mapped else None
    writer = HuggingFaceStorageWriter(
        str(tmp_path / "ckpt"), fqn_to_index_mapping=files, save_distributed=True, enable_consolidation=True
    )
    dcp.save(state, storage_writer=writer, no_dist=True)
    got = loaded(tmp_path / "ckpt")
    assert got.keys() == state.keys() and all(torch.equal(got[n], state[n]) for n in state)
    assert weight_map(tmp_path / "ckpt") == oracle.numbered(files or {n: 1 for n in state})
    from transformers.distributed.checkpoint import consolidate_distributed_checkpoint

    consolidate_distributed_checkpoint(src, tmp_path / "transformers")
    got = loaded(tmp_path / "transformers")
    assert got.keys() == state.keys() and all(torch.equal(got[n], state[n]) for n in state)
    assert len(installed) == 2


def test_one_rank_of_a_group_is_told_of_shards_that_may_be_missing(checkpoint, tmp_path):
    """torch's writers call it on one rank: the group that saved is torch's default one."""
    program = (
        "import sys, shardweld, torch.distributed as dist\n"
        "from torch.testing._internal.distributed.fake_pg import FakeStore\n"
        "dist.init_process_group('fake', rank=0, world_size=int(sys.argv[3]), store=FakeStore())\n"
        "shardweld.consolidate_safetensors_files(sys.argv[1], sys.argv[2], None)\n"
    )
    for size, told in ((4, 0), (5, 1)):
        done = ranks.run([sys.executable, "-c", program, checkpoint.path, str(tmp_path / str(size)), str(size)])
        assert done.status == 0 and done.stderr.count("the highest shard number is 4, but 5 processes are here") == told, done.stderr


def test_dtypes_of_torch(sharded, tmp_path):
    src, state = sharded
    files = {fqn: 1 for fqn in state}
    kept = {"w0": torch.float32, "w1": "BF16"}
    shardweld.consolidate_safetensors_files(src, tmp_path / "a", files, cast_dtype=torch.bfloat16, fqn_to_dtype_mapping=kept)
    want = {n: t if n == "w0" else t.to(torch.bfloat16) for n, t in state.items()}
    got = loaded(tmp_path / "a")
    assert all(got[n].dtype == want[n].dtype and torch.equal(got[n], want[n]) for n in state)
    shardweld.consolidate_safetensors_files(src, tmp_path / "b", files, fqn_to_dtype_mapping={"w2": torch.float64})
    got = loaded(tmp_path / "b")
    assert all(torch.equal(got[n], t.double() if n == "w2" else t) for n, t in state.items())


# ---- NeMo Automodel ------------------------------------------------------------------------------------

CONSOLIDATE = """#!/usr/bin/env bash
set -euo pipefail
args=(--backend gloo --num-threads 5 --model-name org/model --input-dir "$1" --output-dir "$1/consolidated")
if [[ $NPROC_PER_NODE -gt 1 ]]; then
    "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node="$NPROC_PER_NODE" "$CONSOLIDATION_TOOL" "${args[@]}"
else
    "$PYTHON" "$CONSOLIDATION_TOOL" "${args[@]}"
fi
"""


@pytest.mark.parametrize("np", [1, 2])
def test_as_the_tool_of_a_consolidate_script(np, checkpoint, tmp_path):
    checkpoint.add_metadata()
    (tmp_path / "consolidate.sh").write_text(CONSOLIDATE)
    env = {"NPROC_PER_NODE": str(np), "CONSOLIDATION_TOOL": NEMO, "PYTHON": sys.executable, "PYTHONPATH": None}
    done = ranks.run(["bash", str(tmp_path / "consolidate.sh"), checkpoint.path], **env)
    assert done.status == 0, done.stderr
    want = {**checkpoint.expect(), **welding.SIDE}
    assert not oracle.difference(oracle.tree(os.path.join(checkpoint.path, "consolidated")), want)


def test_a_failure_of_the_tool_ends_torchrun(checkpoint):
    given = ["-m", "shardweld.nemo", "--model-name", "x", "--input-dir", checkpoint.path, "--output-dir", checkpoint.path + "/out"]
    done = ranks.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *given])
    assert done.status != 0 and done.stderr.count("has no directory .hf_metadata") == 1


# ---- the package ---------------------------------------------------------------------------------------
