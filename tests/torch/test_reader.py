"""Our reader against torch's. What HuggingFaceStorageReader puts into each rank's part of a DTensor for a changed mesh or
placement, ours reads as boxes of the same files; what QuantizedHuggingFaceStorageReader dequantizes, so does ours."""

import json
import os
import subprocess
import sys
from itertools import product
from math import prod

import numpy as np
import oracle
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import run_ranks
from safetensors.torch import save_file
from saving import describe, save, saved as succeeded
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, zeros
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

READER = os.environ.get("READER_CHECK", os.path.join(os.environ.get("SHARDWELD_BUILD", "build"), "tests", "reader_check"))
RANKS = 4
OURS = "ours"
R, S0, S1 = Replicate(), Shard(0), Shard(1)
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64,
    "U8": torch.uint8, "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip

ONE, TWO = (RANKS,), (2, RANKS // 2)
ON_ONE = [[R], [S0], [S1]]
ON_TWO = [list(p) for p in product([R, S0, S1], repeat=2)]
# test: (shape, mesh and placements of the save, those of the loads)
CASES = {
    "1d to 1d": [((4, 4), ONE, p, [(ONE, q) for q in ON_ONE if q != p]) for p in ON_ONE],
    "2d to 2d": [((4, 4), TWO, p, [(TWO, q) for q in ON_TWO if q != p]) for p in ON_TWO],
    "1d to 2d": [((4, 4), ONE, p, [(TWO, q) for q in ON_TWO]) for p in ON_ONE],
    "2d to 1d": [((4, 4), TWO, p, [(ONE, q) for q in ON_ONE]) for p in ON_TWO],
    "uneven": [((13, 7), m, p, [(TWO, q) for q in ON_TWO]) for m, p in ((ONE, [S0]), (ONE, [S1]), (TWO, [S0, S1]))],
    "empty shards": [((1,), ONE, [S0], [(TWO, [S0, S0]), (ONE, [R])]), ((2, 3), ONE, [S0], [(ONE, [S1]), (TWO, [S1, S0])])],
}


def full_tensor(shape):
    return torch.arange(prod(shape), dtype=torch.float32).view(shape) + 0.5


# ---- one rank of the job that saves, and loads with torch ---------------------------------------------


def job(top):
    dist.init_process_group("gloo")
    meshes = {m: init_device_mesh("cpu", m) for m in (ONE, TWO)}
    for name, saves in CASES.items():
        for i, (shape, mesh, placements, loads) in enumerate(saves):
            directory = os.path.join(top, f"{name} {i}")
            tensor = distribute_tensor(full_tensor(shape), meshes[mesh], placements, src_data_rank=None)
            dcp.save({"dtensor": tensor}, storage_writer=HuggingFaceStorageWriter(directory, save_distributed=True))
            for k, (to, wanted) in enumerate(loads):
                state = {"dtensor": zeros(shape, device_mesh=meshes[to], placements=wanted)}
                dcp.load(state, storage_reader=HuggingFaceStorageReader(directory))
                _, offsets = compute_local_shape_and_global_offset(shape, meshes[to], wanted)
                local = state["dtensor"].to_local().clone()
                torch.save((list(offsets), local), os.path.join(top, f"{name} {i} {k} {dist.get_rank()}"))
    load_ours(os.path.join(top, OURS), meshes)
    dist.destroy_process_group()


def load_ours(directory, meshes):
    """Torch loads what we saved, onto every mesh that it loads its own onto."""
    every = [(f"{name} {i}", shape, loads) for name, saves in CASES.items() for i, (shape, _, _, loads) in enumerate(saves)]
    for k in range(max(len(loads) for _, _, loads in every)):
        wanted = {n: (shape, meshes[loads[k][0]], loads[k][1]) for n, shape, loads in every if k < len(loads)}
        state = {n: zeros(shape, device_mesh=mesh, placements=p) for n, (shape, mesh, p) in wanted.items()}
        dcp.load(state, storage_reader=HuggingFaceStorageReader(directory))
        for n, (shape, mesh, p) in wanted.items():
            full = distribute_tensor(full_tensor(shape), mesh, p, src_data_rank=None)
            assert same(state[n].to_local(), full.to_local()), f"{n}: {mesh} {p}"


def save_ours(top):
    """One checkpoint with a tensor for each save of the cases, in shard files from memory."""
    tensors, boxes = {}, {}
    for name, saves in CASES.items():
        for i, (shape, mesh, placements, _) in enumerate(saves):
            tensors[f"{name} {i}"] = oracle.Tensor("F32", shape, full_tensor(shape).numpy().tobytes())
            boxes[f"{name} {i}"] = oracle.boxes_of(shape, mesh, [p.dim if isinstance(p, Shard) else None for p in placements])
    spec = describe(str(top / "memory"), tensors, boxes, np.random.default_rng(2))
    succeeded(save("shards", spec, top / OURS, np=RANKS))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    top = tmp_path_factory.mktemp("reader")
    save_ours(top)
    run_ranks(RANKS, __file__, str(top))
    return str(top)


# ---- our reader -----------------------------------------------------------------------------------------


def read(path, requests=(), threads=1, buffer=0):
    """{name: tensor}, or a list of tensors where something was asked for."""
    command = [READER, "-t", str(threads), "-b", str(buffer), str(path)]
    done = subprocess.run(command, input=json.dumps(list(requests)).encode(), capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    line, _, data = done.stdout.partition(b"\n")
    at, tensors = 0, []
    for _, dtype, shape in json.loads(line):
        n = prod(shape) * DTYPES[dtype].itemsize
        raw = torch.frombuffer(bytearray(data[at : at + n]), dtype=torch.uint8) if n else torch.empty(0, dtype=torch.uint8)
        tensors.append(raw.view(DTYPES[dtype]).reshape(shape))
        at += n
    assert at == len(data)
    return tensors if requests else dict(zip([item[0] for item in json.loads(line)], tensors, strict=True))


def same(ours, theirs):
    return (
        ours.dtype == theirs.dtype
        and ours.shape == theirs.shape
        and (ours.numel() == 0 or ours.reshape(-1).view(torch.uint8).equal(theirs.contiguous().reshape(-1).view(torch.uint8)))
    )


def test_torch_loads_what_we_save(saved):
    """The ranks of the job have compared it; here, what they had before them."""
    got = read(os.path.join(saved, OURS), threads=3)
    assert len(got) == sum(map(len, CASES.values()))
    assert all(same(t, full_tensor(t.shape)) for t in got.values())


@pytest.mark.parametrize("name", CASES)
def test_changed_mesh(saved, name):
    for i, (shape, _, _, loads) in enumerate(CASES[name]):
        directory = os.path.join(saved, f"{name} {i}")
        asked, wanted = [], []
        for k in range(len(loads)):
            for rank in range(RANKS):
                offsets, local = torch.load(os.path.join(saved, f"{name} {i} {k} {rank}"))
                # Torch gives an empty part the size of its dimension as offset.
                asked.append({"name": "dtensor", "offsets": offsets, "shape": list(local.shape)})
                wanted.append(local)
        for threads in (1, 3):
            got = read(directory, asked, threads)
            assert all(map(same, got, wanted))
        assert same(read(directory)["dtensor"], full_tensor(shape))


# ---- one process ----------------------------------------------------------------------------------------


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear_1 = torch.nn.Linear(5, 5)
        self.linear_2 = torch.nn.Linear(5, 1)
        self.emb = torch.nn.EmbeddingBag(5, 10)


def test_what_torch_saves(tmp_path):
    state = Module().state_dict()
    dcp.save(state, storage_writer=HuggingFaceStorageWriter(str(tmp_path)))
    got = read(tmp_path)
    assert sorted(got) == sorted(state)
    assert all(same(got[k], t) for k, t in state.items())


def test_into_an_empty_dictionary(tmp_path):
    """All tensors, with shapes from the file; several threads; into what is there already."""
    state = Module().state_dict()
    save_file(state, tmp_path / "model-00001-of-00001.safetensors")
    theirs = _load_state_dict_from_keys(storage_reader=HuggingFaceStorageReader(path=str(tmp_path)))
    for threads in (1, 4):
        got = read(tmp_path, threads=threads)
        assert sorted(got) == sorted(theirs)
        assert all(same(got[k], t) for k, t in theirs.items())
    given = {k: torch.zeros_like(t) for k, t in state.items()}
    dcp.load(given, storage_reader=HuggingFaceStorageReader(path=str(tmp_path), thread_count=4))
    got = read(tmp_path, [{"name": k, "offsets": [0] * t.dim(), "shape": list(t.shape)} for k, t in given.items()], 4)
    assert all(map(same, got, given.values()))


def test_many_files_and_threads(tmp_path):
    state = {f"t{i}": torch.randn(17, i + 1) for i in range(12)}
    files = {k: 1 + i % 5 for i, k in enumerate(state)}
    dcp.save(state, storage_writer=HuggingFaceStorageWriter(str(tmp_path), fqn_to_index_mapping=files))
    theirs = {k: torch.zeros_like(t) for k, t in state.items()}
    dcp.load(theirs, storage_reader=HuggingFaceStorageReader(str(tmp_path), thread_count=4))
    got = read(tmp_path, threads=4)
    assert all(same(got[k], theirs[k]) for k in state)


def test_casts(tmp_path):
    state = {"a": torch.randn(31, 9), "b": torch.randn(8).bfloat16(), "c": torch.randn(3, 4, 5).double() * 1e5}
    save_file(state, tmp_path / "model.safetensors")
    asked, wanted = [], []
    for name, dtype in product(state, ("F64", "F32", "BF16", "F16")):
        part = state[name].to(DTYPES[dtype])[1:]
        asked.append({"name": name, "dtype": dtype, "offsets": [1] + [0] * (part.dim() - 1), "shape": list(part.shape)})
        wanted.append(part)
    assert all(map(same, read(tmp_path, asked, 2, 4096), wanted))


# ---- quantized ------------------------------------------------------------------------------------------


def index(directory, files):
    with open(os.path.join(directory, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {}, "weight_map": files}, f)


def load_quantized(directory, name, shape, dtype, threads=1):
    state = {name: torch.zeros(shape, dtype=dtype)}
    reader = QuantizedHuggingFaceStorageReader(str(directory), thread_count=threads, target_dtype=dtype)
    dcp.load(state, storage_reader=reader)
    return state[name]


@pytest.mark.parametrize("target", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("weights", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.bfloat16])
@pytest.mark.parametrize("scales", [torch.float32, torch.bfloat16])
def test_scaled(tmp_path, weights, scales, target):
    """Scales in the same file and in another one; shapes that blocks of 128 do not divide."""
    generator = torch.Generator().manual_seed(3)
    files = ({}, {})
    shapes = {"a.weight": (4, 4), "b.weight": (300, 130), "c.weight": (256, 384), "d.weight": (1, 129)}
    where = {}
    for i, (name, (rows, columns)) in enumerate(shapes.items()):
        blocks = (-(-rows // 128), -(-columns // 128))
        files[0][name] = (torch.randn(rows, columns, generator=generator) * 9).to(weights)
        files[i % 2][name + "_scale_inv"] = torch.rand(blocks, generator=generator).to(scales) + 0.01
        where |= {name: "model-00001-of-00002.safetensors", name + "_scale_inv": f"model-0000{1 + i % 2}-of-00002.safetensors"}
    for j, tensors in enumerate(files):
        save_file(tensors, tmp_path / f"model-0000{j + 1}-of-00002.safetensors")
    index(tmp_path, where)
    asked, wanted = [], []
    for name, shape in shapes.items():
        full = load_quantized(tmp_path, name, shape, DTYPES[target])
        asked.append({"name": name, "dtype": target})
        wanted.append(full)
        # Boxes that begin and end within blocks.
        for lo, hi in (((0, 0), (3, 2)), ((2, 1), (4, 4)), ((100, 100), (290, 129)), ((127, 127), (129, 200))):
            part = full[lo[0] : hi[0], lo[1] : hi[1]]
            if part.numel():
                asked.append({"name": name, "dtype": target, "offsets": lo, "shape": list(part.shape)})
                wanted.append(part)
    for threads, buffer in ((1, 0), (3, 4096)):
        assert all(map(same, read(tmp_path, asked, threads, buffer), wanted))


def test_a_quantized_checkpoint(tmp_path):
    """As a model's: saved in blocks, loaded by two threads, as it was before; and as it lies when nothing is asked for."""
    shapes = {"linear1.weight": (256, 128), "linear2.weight": (128, 64), "embedding.weight": (512, 256)}
    generator = torch.Generator().manual_seed(11)
    originals = {n: torch.randn(s, generator=generator).to(torch.float8_e4m3fn).float() * 2 for n, s in shapes.items()}
    state = {n: (t / 2).to(torch.float8_e4m3fn) for n, t in originals.items()}
    state |= {n + "_scale_inv": torch.full((-(-r // 128), -(-c // 128)), 2.0) for n, (r, c) in shapes.items()}
    save_file(state, tmp_path / "model.safetensors")
    index(tmp_path, dict.fromkeys(state, "model.safetensors"))
    got = read(tmp_path, [{"name": n, "dtype": "F32"} for n in shapes], threads=2)
    assert all(map(same, got, originals.values()))
    assert all(same(t, load_quantized(tmp_path, n, shapes[n], torch.float32, threads=2)) for n, t in zip(shapes, got, strict=True))
    as_saved = read(tmp_path, threads=2)
    assert all(same(as_saved[n], t) for n, t in state.items())


@pytest.mark.parametrize("target", ["F32", "BF16"])
def test_mxfp4(tmp_path, target):
    generator = torch.Generator().manual_seed(5)
    experts, rows, groups = 3, 10, 6
    blocks = torch.randint(0, 256, (experts, rows, groups, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(110, 140, (experts, rows, groups), dtype=torch.uint8, generator=generator)
    name = "model.layers.0.mlp.experts.down_proj_blocks"
    other = name.replace("_blocks", "_scales")
    save_file({name: blocks, other: scales}, tmp_path / "model-00001-of-00001.safetensors")
    index(tmp_path, dict.fromkeys((name, other), "model-00001-of-00001.safetensors"))
    full = dequantize_mxfp4(tmp_path, name, blocks, scales, DTYPES[target])
    assert full.shape == (experts, rows, groups * 32)
    asked, wanted = [{"name": name, "dtype": target}, {"name": name}], [full, blocks]
    for lo, hi in (((0, 0, 0), (1, 1, 1)), ((1, 3, 31), (3, 9, 33)), ((0, 0, 64), (3, 10, 128)), ((2, 1, 5), (3, 2, 190))):
        part = full[tuple(map(slice, lo, hi))]
        asked.append({"name": name, "dtype": target, "offsets": lo, "shape": list(part.shape)})
        wanted.append(part)
    for threads, buffer in ((1, 0), (2, 4096)):
        assert all(map(same, read(tmp_path, asked, threads, buffer), wanted))


def dequantize_mxfp4(path, name, blocks, scales, dtype):
    """Torch's function for it; a whole load fills only part of such a tensor."""

    class Whole:
        storage_offsets, lengths = [0, 0, 0], [*blocks.shape[:2], blocks.shape[2] * 32]

    reader = QuantizedHuggingFaceStorageReader(str(path), target_dtype=dtype)
    return reader._dequantize_tensor_mxfp4(blocks, scales, Whole, 0, 0)


if __name__ == "__main__":
    job(sys.argv[1])
