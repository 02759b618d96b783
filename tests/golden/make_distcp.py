#!/usr/bin/env python3
"""Make the golden fixtures of torch DCP's own format: .metadata beside .distcp files.

    python3 make_distcp.py [DIR]        DIR = where this file is

As make_golden.py, whose tensors these are; needs the same. Four processes save each case with dcp.save()
into DIR/distcp_NAME/in; DIR/distcp_NAME/out is written by safetensors' save_file from the full tensors.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from make_golden import BF16, CASES, F32, R, RANKS, S0, S1, T, full_tensor
from safetensors.torch import save_file
from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor

# Names of make_golden.py's cases whose tensors are saved as a flat state dict.
FLAT = ["grid", "uneven", "hsdp", "empty", "scalars", "dims", "stages", "names"]

MODEL = {
    "embed_tokens.weight": T((24, 8), BF16, (S0,)),
    "layers.0.q_proj.weight": T((8, 8), BF16, (S0, S1)),
    "layers.0.norm.weight": T((8,), F32, (R,)),
    "layers.0.scale": T((), F32, None),
    "experts": T((3, 4, 6), F32, (S1,)),
}

DTYPES = {name: T((5, 3), getattr(torch, name), (S0,)) for name in (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
    "float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu")}  # fmt: skip


def place(fqn, t, meshes, case):
    full = full_tensor(case, fqn, t)
    return full if t.place is None else distribute_tensor(full, meshes[len(t.place)], list(t.place), src_data_rank=None)


def model(meshes, case):
    return {fqn: place(fqn, t, meshes, case) for fqn, t in MODEL.items()}


def optimizer(meshes, case):
    """As torch's get_optimizer_state_dict makes it: moments beside numbers."""
    moments = {fqn: {"exp_avg": place(f"m.{fqn}", t, meshes, case), "step": torch.tensor(3.0)} for fqn, t in MODEL.items()}
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": list(MODEL)}]}


# name: (what it is about, the state dict, the tensors that must come out)
NESTED = {
    "train": ("a training job's: model, optimizer and numbers; the model comes out, under its own names",
              lambda m, c: {"model": model(m, c), "optimizer": optimizer(m, c), "step": 12}, MODEL),
    "app": ("the same in an object of the application's", lambda m, c: {"app": {"model": model(m, c), "optimizer": optimizer(m, c)}},
            MODEL),
    "only_model": ("nothing but a model, as accelerate saves it", lambda m, c: {"model": model(m, c)}, MODEL),
    "beside": ("the model's names at the top beside the optimizer, as torchtitan saves it",
               lambda m, c: {**model(m, c), "optimizer": optimizer(m, c), "train_state": {"step": torch.tensor(7)}}, MODEL),
    "entries": ("a training job's, in torch's SAFETENSORS serialization: values, then a safetensors file, in each .distcp",
                lambda m, c: {"model": model(m, c), "optimizer": optimizer(m, c), "step": 12}, MODEL),
    "dtypes": ("all dtypes that torch and safetensors share",
               lambda m, c: {fqn: place(fqn, t, m, c) for fqn, t in DTYPES.items()}, DTYPES),
}  # fmt: skip


def flat(meshes, name, rank):
    tensors = CASES[name].tensors
    return {fqn: place(fqn, t, meshes, name) for fqn, t in tensors.items()
            if t.ranks is None or rank in t.ranks}  # fmt: skip


def save_all(rank, root, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    meshes = {1: init_device_mesh("cpu", (RANKS,)), 2: init_device_mesh("cpu", (2, 2), mesh_dim_names=("x", "y"))}
    for name in FLAT:
        planner = dcp.DefaultSavePlanner(flatten_state_dict=False)
        dcp.save(flat(meshes, name, rank), checkpoint_id=str(root / f"distcp_{name}" / "in"), planner=planner)
    for name, (_, make, _) in NESTED.items():
        where = str(root / f"distcp_{name}" / "in")
        form = SerializationFormat.SAFETENSORS if name == "entries" else SerializationFormat.TORCH_SAVE
        dcp.save(make(meshes, name), storage_writer=FileSystemWriter(where, serialization_format=form))
    dist.barrier()
    dist.destroy_process_group()


def write_out(where, tensors):
    where.mkdir()
    save_file(tensors, where / "model.safetensors", metadata={"format": "pt"})


def write_readme(root):
    head = (
        "Checkpoints of torch.distributed.checkpoint.save(): .metadata and .distcp files, and what they must be welded to,\n"
        "byte for byte. Made by make_distcp.py.\n\n"
    )
    about = {name: f"the tensors of {name}: {CASES[name].about}" for name in FLAT}
    about |= {name: what for name, (what, _, _) in NESTED.items()}
    (root / "README.distcp").write_text(head + "".join(f"distcp_{name}: {what}\n" for name, what in about.items()))


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
    expected = {name: CASES[name].tensors for name in FLAT} | {name: want for name, (_, _, want) in NESTED.items()}
    for name in expected:
        shutil.rmtree(root / f"distcp_{name}", ignore_errors=True)
        (root / f"distcp_{name}").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        mp.spawn(save_all, args=(root, os.path.join(scratch, "meeting")), nprocs=RANKS)
    write_readme(root)
    for name, tensors in expected.items():
        write_out(root / f"distcp_{name}" / "out", {fqn: full_tensor(name, fqn, t) for fqn, t in tensors.items()})


if __name__ == "__main__":
    main()
