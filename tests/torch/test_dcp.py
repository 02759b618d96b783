"""From torch's own save to torch's own load: DCP shards, welded, are what save_file writes of the full tensors."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import run_ranks
from runner import SHARDWELD, ok, run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

RANKS = 4
R, S0, S1, S2 = Replicate(), Shard(0), Shard(1), Shard(2)

# name: (dtype, shape, mesh, placements)
TENSORS = {
    "rows.weight": (torch.bfloat16, (16, 12), (4,), [S0]),
    "columns.weight": (torch.float32, (6, 20), (4,), [S1]),
    "grid.weight": (torch.float16, (10, 14), (2, 2), [S0, S1]),
    "nested.weight": (torch.float64, (13, 3), (2, 2), [S0, S0]),
    "uneven.weight": (torch.int32, (7, 5), (4,), [S0]),
    "few.rows": (torch.bfloat16, (2, 9), (4,), [S0]),
    "hsdp.weight": (torch.float32, (8, 5), (2, 2), [R, S0]),
    "replicated": (torch.int64, (5,), (4,), [R]),
    "scalar": (torch.float32, (), (4,), [R]),
    "mask": (torch.bool, (9, 4), (4,), [S0]),
    "bytes": (torch.uint8, (33,), (4,), [S0]),
    "small.ints": (torch.int8, (4, 4, 4), (2, 2), [S2, S0]),
    "half.ints": (torch.int16, (3, 8), (4,), [S1]),
    "fp8": (torch.float8_e4m3fn, (8, 8), (2, 2), [S1, S0]),
    "fp8.5": (torch.float8_e5m2, (5, 8), (4,), [S0]),
    "conv.weight": (torch.float32, (4, 3, 5, 2, 3), (2, 2), [S2, S0]),
    "empty": (torch.float32, (0, 4), (4,), [S0]),
}
FILES = {name: 1 + i % 3 for i, name in enumerate(TENSORS)}


def full_tensors():
    generator = torch.Generator().manual_seed(7)
    out = {}
    for name, (dtype, shape, _, _) in TENSORS.items():
        size = torch.empty(shape, dtype=dtype).numel() * dtype.itemsize
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
        out[name] = raw.view(dtype).reshape(shape)
    return out


def local_part(full, mesh, placements):
    """A DTensor of the full tensor's local part; through bytes, since few operations know FP8."""
    wide = full.view(torch.uint8).view(*full.shape, full.dtype.itemsize) if full.dim() else full
    local = wide
    at = mesh.get_coordinate()
    for dim, place in enumerate(placements):
        if isinstance(place, Shard):
            pieces = torch.chunk(local, mesh.size(dim), place.dim)
            empty = local.narrow(place.dim, 0, 0)
            local = pieces[at[dim]] if at[dim] < len(pieces) else empty
    if full.dim():
        shape = local.shape[:-1]
        local = local.contiguous().view(-1).view(full.dtype).reshape(shape)
    stride = torch.empty(full.shape, device="meta").stride()
    return DTensor.from_local(local.contiguous(), mesh, placements, run_check=False, shape=full.shape, stride=stride)


def save(directory, files):
    """One rank of the save; runs in a process of its own."""
    dist.init_process_group("gloo")
    meshes = {m: init_device_mesh("cpu", m) for m in {t[2] for t in TENSORS.values()}}
    state = {n: local_part(t, meshes[TENSORS[n][2]], TENSORS[n][3]) for n, t in full_tensors().items()}
    writer = HuggingFaceStorageWriter(directory, fqn_to_index_mapping=files, save_distributed=True)
    dcp.save(state, storage_writer=writer)
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=["one file", "three files"])
def saved(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("dcp")
    files = FILES if request.param == "three files" else None
    run_ranks(RANKS, __file__, str(directory / "in"), json.dumps(files))
    return str(directory / "in"), files


@pytest.fixture(scope="module")
def welded(saved, tmp_path_factory):
    if not os.access(SHARDWELD, os.X_OK):
        pytest.fail(f"{SHARDWELD} is not there: build it, or set SHARDWELD")
    src, files = saved
    out = str(tmp_path_factory.mktemp("welded") / "out")
    ok(run(["consolidate", src, out], np=2))
    return src, files or {n: 1 for n in TENSORS}, out


def names(files):
    return {n: f"model-{j:05}-of-{max(files.values()):05}.safetensors" for n, j in files.items()}


def same_bytes(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and (
        a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8)) if a.numel() else True
    )


def test_the_files_are_those_of_save_file(welded, tmp_path):
    _, files, out = welded
    full = full_tensors()
    for name in sorted(set(names(files).values())):
        save_file({n: t for n, t in full.items() if names(files)[n] == name}, tmp_path / name, metadata={"format": "pt"})
        assert subprocess.run(["cmp", tmp_path / name, os.path.join(out, name)], check=False).returncode == 0


def test_the_index_is_right(welded):
    _, files, out = welded
    full = full_tensors()
    metadata = {
        "total_parameters": sum(t.numel() for t in full.values()),
        "total_size": sum(t.numel() * t.dtype.itemsize for t in full.values()),
    }
    text = json.dumps({"metadata": metadata, "weight_map": names(files)}, indent=2, sort_keys=True) + "\n"
    with open(os.path.join(out, "model.safetensors.index.json"), encoding="utf-8") as f:
        assert f.read() == text


def test_safetensors_loads_it(welded):
    _, files, out = welded
    full = full_tensors()
    got = {}
    for name in set(names(files).values()):
        got.update(load_file(os.path.join(out, name)))
        with safe_open(os.path.join(out, name), "pt") as f:
            assert f.metadata() == {"format": "pt"}
    assert set(got) == set(full)
    assert all(same_bytes(got[n], full[n]) for n in full)


def load(directory):
    full = full_tensors()
    state = {n: torch.zeros(t.shape, dtype=torch.uint8).view(t.dtype) if t.dtype.itemsize == 1 else torch.zeros_like(t) for n, t in full.items()}
    dcp.load(state, storage_reader=HuggingFaceStorageReader(directory), no_dist=True)
    return state


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torch_loads_it(welded):
    src, _, out = welded
    full = full_tensors()
    loaded, sharded = load(out), load(src)
    for name in full:
        assert same_bytes(loaded[name], full[name]), name
        assert same_bytes(sharded[name], full[name]), name


def test_other_options_and_ranks(saved, tmp_path):
    src, _ = saved
    full = full_tensors()
    save_file(full, tmp_path / "model.safetensors", metadata={"format": "pt"})
    want = (tmp_path / "model.safetensors").read_bytes()
    for np, more in ((None, []), (3, ["--assign", "owner"]), (2, ["--buffer-size", "4KiB"])):
        ok(run(["consolidate", "--single-file", "--overwrite", "--expect-shards", RANKS, "-q", *more, src, tmp_path / "out"], np=np))
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == want


if __name__ == "__main__":
    save(sys.argv[1], json.loads(sys.argv[2]))
