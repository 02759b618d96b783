#!/usr/bin/env python3
"""Make the golden fixtures: real shards of torch DCP, and what they must be welded to.

    python3 make_golden.py [DIR]        DIR = where this file is

Needs torch 2.13 (CPU is enough) and safetensors 0.8. Four processes with gloo save each case with
HuggingFaceStorageWriter(save_distributed=True) into DIR/NAME/in; DIR/NAME/out is written by
safetensors.torch.save_file(..., metadata={"format": "pt"}) from the full tensors, one call for each
model file, and json.dumps for the index. DIR/NAME/args has the options of the weld, if any. A case that
must be refused has no out but a file status (the exit status) and a file words (each line of it stands
in the message).

Contents are random bytes from a seed that is the case's and the tensor's name, so NaNs of all kinds and
subnormals occur: a tool that interprets what it should copy shows. Tensors and offsets are the same in
every run; the bytes of the shards are not, since safetensors writes __metadata__ in random order.
"""

import json
import math
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch.distributed.checkpoint.default_planner import (
    DefaultSavePlanner,
    create_default_global_save_plan,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

RANKS = 4
INDEX = "model.safetensors.index.json"
R, S0, S1 = Replicate(), Shard(0), Shard(1)
F32, BF16 = torch.float32, torch.bfloat16


@dataclass
class T:
    """A tensor of a case. place: placements on the mesh of 4 (one of them) or of 2 x 2 (two); None = not
    a DTensor but a plain tensor. ranks: who has it, None = all (plain ones only)."""

    shape: tuple
    dtype: torch.dtype = F32
    place: tuple | None = (S0,)
    ranks: tuple | None = None


@dataclass
class Case:
    about: str
    tensors: dict
    mapping: dict | None = None  # fqn_to_index_mapping of the save
    hf_mapping: dict | None = None  # .hf_metadata/fqn_to_file_index_mapping.json
    keep_all: bool = False  # neither leave replicas out nor look for overlaps
    lose: tuple = ()  # shard files that are removed afterwards
    plain: bool = False  # not sharded: whole tensors in files of the mapping
    args: str = ""  # options for the weld, run inside the case's directory
    given: dict = field(default_factory=dict)  # files beside in that args names: name -> what JSON holds
    files: dict | None = None  # fqn -> output file, where the mappings do not tell
    index: str | None = INDEX  # name of the index, None = there is none
    status: int = 0
    words: list = field(default_factory=list)


ALL_DTYPES = [
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
]  # fmt: skip

HOSTILE = ['quote"', "back\\slash", "slash/../x", "tab\tline\n", "\x01\x1f", "del\x7f", "\u00e9t\u00e9",
           "line\u2028sep", "\u65e5\u672c", "\U0001f600", "\uffff", "a b", "a.9", "a.10", "A", "",
           "long." + "x" * 300]  # fmt: skip


LIKE = {
    "model.embed_tokens.weight": "text/one.safetensors",
    "model.norm.weight": "two.safetensors",
    "model.layers.0.self_attn.q_proj.weight": "text/one.safetensors",
    "model.layers.0.mlp.up_proj.weight": "text/deep/three.safetensors",
}

# Names in an order that is neither that of the bytes nor that of the numbers.
SIZES = {"layers.10.w": 40, "layers.9.w": 50, "embed": 120, "layers.2.w": 30, "layers.09.b": 0, "norm": 101,
         "layers.1.w": 100, "lm_head": 60}  # fmt: skip


def numbered(indices):
    """fqn -> index from 1 as file names of the largest index."""
    return {fqn: model_file(j, max(indices.values())) for fqn, j in indices.items()}


def model_file(index, largest):
    return f"model-{index:05d}-of-{largest:05d}.safetensors"


def layers(n, place, dtype=BF16):
    """A small model of n layers."""
    tensors = {"model.embed_tokens.weight": T((24, 8), dtype, place), "model.norm.weight": T((8,), F32, (R,))}
    for i in range(n):
        tensors[f"model.layers.{i}.self_attn.q_proj.weight"] = T((8, 8), dtype, place)
        tensors[f"model.layers.{i}.mlp.up_proj.weight"] = T((16, 8), dtype, place)
    return tensors


CASES = {
    "rows": Case("rows sharded over 4 ranks (FSDP)", layers(2, (S0,))),
    "columns": Case("columns sharded over 4 ranks", layers(2, (S1,))),
    "grid": Case("a 2 x 2 mesh: rows over one of its dimensions, columns over the other", {
        "a": T((6, 10), BF16, (S0, S1)),
        "b": T((4, 4), F32, (S1, S0)),
        "c": T((2, 2), torch.float16, (S0, S1)),
    }),
    "uneven": Case("dimensions that 4 and 2 do not divide", {
        "rows5": T((5, 3), F32),
        "rows7": T((7, 2), BF16),
        "columns6": T((3, 6), BF16, (S1,)),
        "columns7": T((1, 7), torch.uint8, (S1,)),
        "grid": T((5, 7), F32, (S0, S1)),
        "vector": T((11,), torch.int8),
    }),
    "nested": Case("two placements on one dimension", {
        "even": T((8, 3), F32, (S0, S0)),
        "uneven": T((7, 3), F32, (S0, S0)),
        "columns": T((2, 8), BF16, (S1, S1)),
        "few": T((3, 2), F32, (S0, S0)),
    }),
    "hsdp": Case("HSDP, as DCP saves it: each region once, spread over the ranks", {
        "w": T((8, 4), BF16, (R, S0)),
        "v": T((5, 3), F32, (R, S0)),
        "columns": T((3, 6), F32, (S1, R)),
        "norm": T((4,), F32, (R, R)),
    }),
    "replicas": Case("HSDP and DDP with every copy saved: regions that repeat exactly", {
        "w": T((8, 4), BF16, (R, S0)),
        "columns": T((3, 6), F32, (S1, R)),
        "norm": T((4,), F32, (R, R)),
        "step": T((), torch.int64, (R, R)),
        "none": T((0, 3), F32, (R, R)),
    }, keep_all=True),
    "empty": Case("fewer rows than ranks, and tensors without elements", {
        "one_row": T((1, 5), F32),
        "two_rows": T((2, 3), BF16),
        "five_over_four": T((5,), torch.int16),
        "one_column": T((3, 1), F32, (S1,)),
        "one_by_one": T((1, 1), F32, (S0, S1)),
        "no_rows": T((0, 4), F32),
        "no_columns": T((4, 0), BF16),
        "nothing": T((0,), torch.bool, (R,)),
    }),
    "scalars": Case("0-d tensors, replicated or plain, and tensors of one element", {
        "scalar": T((), F32, (R,)),
        "plain_scalar": T((), torch.int64, None),
        "flag": T((), torch.bool, None),
        "scale": T((), torch.float8_e4m3fn, (R,)),
        "one": T((1,), BF16, (S0,)),
        "ones": T((1, 1, 1), F32, (R,)),
        "w": T((4, 2), F32),
    }),
    "dtypes": Case("all dtypes that torch and safetensors share",
                   {f"t.{name}": T((6, 3), getattr(torch, name), (S0,)) for name in ALL_DTYPES}
                   | {f"c.{name}": T((2, 5), getattr(torch, name), (S1,)) for name in ALL_DTYPES}),
    "dims": Case("3 to 5 dimensions, sharded along any of them", {
        "d3.0": T((5, 2, 3), BF16, (S0,)),
        "d3.1": T((2, 6, 3), F32, (S1,)),
        "d3.2": T((2, 3, 5), F32, (Shard(2),)),
        "d3.grid": T((4, 3, 4), BF16, (Shard(2), S0)),
        "d4.grid": T((2, 3, 3, 5), torch.uint8, (S1, Shard(3))),
        "d4.outer": T((4, 2, 2, 2), torch.float16, (S0, S1)),
        "d5.grid": T((2, 3, 2, 5, 2), torch.int8, (Shard(3), S1)),
        "d5.inner": T((1, 2, 1, 2, 6), BF16, (Shard(4),)),
        "d5.nested": T((1, 2, 7, 1, 2), torch.int16, (Shard(2), Shard(2))),
    }),
    "models": Case("several model files: an index that is not used, a tied weight that nobody holds", layers(3, (S0,)),
                   mapping={"model.embed_tokens.weight": 1, "model.norm.weight": 4, "lm_head.weight": 5}
                   | {f"model.layers.{i}.{w}.weight": (1, 2, 4)[i]
                      for i in range(3) for w in ("self_attn.q_proj", "mlp.up_proj")}),
    "stages": Case("ranks that hold different tensors (pipeline stages, experts)", {
        "stage.0": T((3, 2), F32, None, (0,)),
        "stage.1": T((2, 2), BF16, None, (1,)),
        "stage.3": T((4,), F32, None, (3,)),
        "shared": T((2,), F32, None),
        "w": T((3, 4), BF16, (S1,)),
    }, mapping={"stage.0": 1, "stage.1": 1, "stage.3": 2, "shared": 2, "w": 3}),
    "names": Case("FQNs with quotes, controls, all lengths of UTF-8",
                  {name: T((4,), torch.uint8) for name in HOSTILE}),
    "hf_metadata": Case("one model file, to be split as .hf_metadata says", layers(2, (S1,)),
                        hf_mapping={name: 1 if "embed" in name or ".0." in name else 2 for name in layers(2, (S1,))}),
    "fqn_map": Case("--fqn-map with numbers left out and an FQN that no shard holds", layers(1, (S0,)),
                    args="--fqn-map map.json",
                    given={"map.json": {"lm_head.weight": 12, "model.norm.weight": 11, "model.embed_tokens.weight": 2,
                                        "model.layers.0.self_attn.q_proj.weight": 3,
                                        "model.layers.0.mlp.up_proj.weight": 3}},
                    files=numbered({"lm_head.weight": 12, "model.norm.weight": 11, "model.embed_tokens.weight": 2,
                                    "model.layers.0.self_attn.q_proj.weight": 3,
                                    "model.layers.0.mlp.up_proj.weight": 3})),
    "like": Case("--like: names, sub-directories and the name of the index from an existing index", layers(1, (S1,)),
                 args="--like diffusion_pytorch_model.safetensors.index.json",
                 given={"diffusion_pytorch_model.safetensors.index.json": {
                     "metadata": {"total_size": 1.5e3}, "weight_map": LIKE}},
                 files=LIKE, index="diffusion_pytorch_model.safetensors.index.json"),
    # As split_torch_state_dict_into_shards of huggingface_hub 2.4 gives it for the tensors in natural order.
    "by_size": Case("--max-shard-size: natural order, tensors over the limit numbered before the open file",
                    {name: T((n,), torch.uint8) for name, n in SIZES.items()}, args="--max-shard-size 100",
                    files=numbered({"embed": 1, "layers.1.w": 2, "layers.2.w": 3, "layers.09.b": 3, "layers.9.w": 3,
                                    "norm": 4, "layers.10.w": 5, "lm_head": 5})),
    "single": Case("--single-file: no index", layers(2, (S0,)), args="--single-file",
                   mapping=dict.fromkeys(layers(2, (S0,)), 1) | {"model.norm.weight": 2},
                   files=dict.fromkeys(layers(2, (S0,)), "model.safetensors"), index=None),
    "plain": Case("no shards: a checkpoint of two files with an index, written again", {
        "b.weight": T((3, 2), F32), "a.weight": T((2, 2), BF16), "c": T((), F32), "d": T((0, 2), F32),
        "e": T((5,), torch.uint8),
    }, mapping={"a.weight": 2, "b.weight": 1, "c": 2, "d": 1, "e": 2}, plain=True),
    "strided": Case("refused: strided placements, whose rows do not lie together in the tensor", {
        "fine": T((8, 2), F32, (S0, S0)),
        "strided": T((8, 2), F32, (S0, _StridedShard(0, split_factor=2))),
    }, keep_all=True, status=3, words=["strided", "_StridedShard"]),
    "lost": Case("refused: a shard file in the middle is gone", {
        "gone.weight": T((8, 2), F32),
    }, lose=("shard-00002-model-00001-of-00001.safetensors",), status=3, words=["gone.weight"]),
}  # fmt: skip


class KeepAllPlanner(DefaultSavePlanner):
    """Saves what every rank has: without leaving replicas out, and without the check for overlaps."""

    def _create_global_plan(self, all_plans):
        return create_default_global_save_plan(all_plans)


def full_tensor(case, fqn, t):
    n = math.prod(t.shape)
    size = n * t.dtype.itemsize
    data = random.Random(f"{case}/{fqn}").randbytes(size)
    if t.dtype == torch.bool:
        data = bytes(b & 1 for b in data)
    if n == 0:
        return torch.empty(t.shape, dtype=t.dtype)
    return torch.frombuffer(bytearray(data), dtype=t.dtype).reshape(t.shape)


def full_tensors(name, case):
    return {fqn: full_tensor(name, fqn, t) for fqn, t in case.tensors.items()}


def state_dict(name, case, rank, meshes):
    state = {}
    for fqn, full in full_tensors(name, case).items():
        t = case.tensors[fqn]
        if t.place is None:
            if t.ranks is None or rank in t.ranks:
                state[fqn] = full
        else:
            # Every rank has the full tensor and takes its part: nothing is sent.
            state[fqn] = distribute_tensor(full, meshes[len(t.place)], list(t.place), src_data_rank=None)
    return state


def save_shards(rank, root, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    meshes = {1: init_device_mesh("cpu", (RANKS,)), 2: init_device_mesh("cpu", (2, 2), mesh_dim_names=("x", "y"))}
    for name, case in CASES.items():
        if case.plain:
            continue
        dcp.save(
            state_dict(name, case, rank, meshes),
            storage_writer=dcp.HuggingFaceStorageWriter(
                path=str(root / name / "in"), fqn_to_index_mapping=case.mapping, save_distributed=True
            ),
            # DCP would give "a/b" of a nested dict; ours are flat, with any name.
            planner=(KeepAllPlanner if case.keep_all else DefaultSavePlanner)(flatten_state_dict=False),
        )
    dist.barrier()
    dist.destroy_process_group()


def write_index(path, tensors, files, **style):
    metadata = {
        "total_parameters": sum(t.numel() for t in tensors.values()),
        "total_size": sum(t.numel() * t.element_size() for t in tensors.values()),
    }
    text = json.dumps({"metadata": metadata, "weight_map": files}, **style)
    path.write_text(text + "\n", encoding="utf-8", newline="")


def files_of(case):
    files = case.files or numbered(case.hf_mapping or case.mapping or dict.fromkeys(case.tensors, 1))
    return {fqn: files[fqn] for fqn in case.tensors}


def write_whole(where, tensors, files, metadata):
    for file in sorted(set(files.values())):
        (where / file).parent.mkdir(parents=True, exist_ok=True)
        save_file({fqn: tensors[fqn] for fqn in tensors if files[fqn] == file}, where / file, metadata=metadata)


def write_plain(where, name, case):
    """As some older tool wrote it: no metadata in the files, an index in the order of the tensors."""
    tensors = full_tensors(name, case)
    write_whole(where, tensors, files_of(case), None)
    write_index(where / INDEX, tensors, files_of(case))


def finish_case(root, name, case):
    where = root / name
    if case.plain:
        write_plain(where / "in", name, case)
    for file in case.lose:
        (where / "in" / file).unlink()
    if case.hf_mapping:
        (where / "in" / ".hf_metadata").mkdir()
        text = json.dumps(case.hf_mapping, indent=2) + "\n"
        (where / "in" / ".hf_metadata" / "fqn_to_file_index_mapping.json").write_text(text)
    for file, content in case.given.items():
        (where / file).write_text(json.dumps(content, indent=2) + "\n")
    if case.args:
        (where / "args").write_text(case.args + "\n")
    if case.status:
        (where / "status").write_text(f"{case.status}\n")
        (where / "words").write_text("".join(f"{w}\n" for w in case.words))
        return
    tensors = full_tensors(name, case)
    write_whole(where / "out", tensors, files_of(case), {"format": "pt"})
    if case.index:
        write_index(where / "out" / case.index, tensors, files_of(case), indent=2, sort_keys=True)


def write_readme(root):
    head = (
        "Shards that torch DCP wrote, and what they must be welded to, byte for byte. Made by make_golden.py.\n"
        "NAME/in: the input. NAME/out: the output. NAME/args: options, for a run inside NAME. Where the input must be\n"
        "refused NAME/status has the exit status, and each line of NAME/words stands in the message.\n\n"
    )
    width = max(map(len, CASES)) + 2
    (root / "README").write_text(head + "".join(f"{name:<{width}}{case.about}\n" for name, case in CASES.items()))


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
    for name in CASES:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        mp.spawn(save_shards, args=(root, os.path.join(scratch, "meeting")), nprocs=RANKS)
    for name, case in CASES.items():
        finish_case(root, name, case)
    write_readme(root)


if __name__ == "__main__":
    main()
