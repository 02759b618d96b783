"""What we save from memory, against torch: shard files are those of its own writer, byte for byte but for what tells of lost ones, its reader loads them onto another
mesh, and a consolidated checkpoint straight from memory is what it loads too."""

import json
import sys

import numpy as np
import oracle
import pytest
import test_dcp
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import run_ranks
from runner import fails, run
from saving import describe, save, saved
from test_dcp import FILES, RANKS, TENSORS, full_tensors, local_part, same_bytes
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
LOAD_RANKS = 2


def ours():
    """The tensors as the oracle has them, and who holds what."""
    tensors = {n: oracle.Tensor(NAMES[t.dtype], tuple(t.shape), t.contiguous().view(-1).view(torch.uint8).numpy().tobytes()) for n, t in full_tensors().items()}
    boxes = {n: oracle.boxes_of(shape, mesh, [p.dim if isinstance(p, Shard) else None for p in places]) for n, (_, shape, mesh, places) in TENSORS.items()}
    return tensors, boxes


def start(what, *args, ranks=RANKS):
    """This file on so many gloo ranks."""
    run_ranks(ranks, __file__, what, *map(str, args))


def torch_saves(directory, files):
    """One rank of torch's own save, where the lowest rank that holds a replica writes it."""
    dist.init_process_group("gloo")
    meshes = {m: init_device_mesh("cpu", m) for m in {t[2] for t in TENSORS.values()}}
    state = {n: local_part(t, meshes[TENSORS[n][2]], TENSORS[n][3]) for n, t in full_tensors().items()}
    writer = HuggingFaceStorageWriter(directory, fqn_to_index_mapping=files, save_distributed=True)
    dcp.save(state, storage_writer=writer, planner=DefaultSavePlanner(dedup_save_to_lowest_rank=True))
    dist.destroy_process_group()


def placed(shape):
    """Another mesh than the one that saved: columns where there are some, else rows."""
    return [Shard(len(shape) - 1)] if shape else [Replicate()]


def torch_loads(directory):
    """One rank of a load onto two ranks; every part must be that of the full tensor."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (LOAD_RANKS,))
    full = full_tensors()
    want = {n: local_part(t, mesh, placed(t.shape)) for n, t in full.items()}
    blank = {n: (torch.zeros(t.shape, dtype=torch.uint8).view(t.dtype) if t.dtype.itemsize == 1 else torch.zeros_like(t)) for n, t in full.items()}
    got = {n: local_part(t, mesh, placed(t.shape)) for n, t in blank.items()}
    dcp.load(got, storage_reader=HuggingFaceStorageReader(directory))
    for name in full:
        assert same_bytes(got[name].to_local(), want[name].to_local()), name
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=["one file", "three files"])
def mine(request, tmp_path_factory):
    """(directory, {fqn: file number} or None, options): shards and a consolidated checkpoint, both from memory."""
    directory = tmp_path_factory.mktemp("ours")
    files = FILES if request.param == "three files" else None
    oracle.write_json(directory / "map.json", FILES)
    options = [f"fqn_map={directory / 'map.json'}"] if files else []
    spec = describe(str(directory / "memory"), *ours(), np.random.default_rng(3))
    saved(save("shards", spec, directory / "shards", *options, np=RANKS))
    saved(save("consolidated", spec, directory / "consolidated", *options, np=RANKS))
    return directory, files


def test_the_shards_are_torchs(mine, tmp_path):
    """But for what tells of lost ones."""
    directory, files = mine
    start("torch_saves", tmp_path / "theirs", json.dumps(files))
    both = [{name: oracle.as_torch(data) for name, data in oracle.tree(d).items()} for d in (directory / "shards", tmp_path / "theirs")]
    assert oracle.difference(*both) == ""
    mine_alone = next((directory / "shards").iterdir()).read_bytes()
    assert b"global_shape" in mine_alone and b"SHARDWELD_SHARDS" in mine_alone


def test_a_lost_shard_is_named(mine, tmp_path):
    """Whichever it is, the last one too. That torch's reader does not mind what tells of it is shown below."""
    directory, _ = mine
    for lost in sorted((directory / "shards").iterdir()):
        number = int(lost.name.split("-")[1])
        lost.rename(tmp_path / "aside")
        fails(run(["consolidate", directory / "shards", tmp_path / "out"]), 3, f"shard {number} of model {int(lost.name.split('-')[3])} is missing")
        (tmp_path / "aside").rename(lost)


def test_torch_loads_them_onto_another_mesh(mine):
    directory, _ = mine
    start("torch_loads", directory / "shards", ranks=LOAD_RANKS)
    start("torch_loads", directory / "consolidated", ranks=LOAD_RANKS)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torch_loads_them_whole(mine):
    directory, _ = mine
    full = full_tensors()
    for kind in ("shards", "consolidated"):
        got = test_dcp.load(str(directory / kind))
        assert all(same_bytes(got[n], full[n]) for n in full)


if __name__ == "__main__":
    if sys.argv[1] == "torch_saves":
        torch_saves(sys.argv[2], json.loads(sys.argv[3]))
    else:
        torch_loads(sys.argv[2])
