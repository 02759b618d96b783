#!/usr/bin/env python3
"""Make the golden fixtures of torch_checkpointing: metadata.pkl beside a safetensors file of each rank.

    python3 make_tc.py [DIR]        DIR = where this file is

Needs torch 2.13, torch_checkpointing 0.1.1 and safetensors. Four processes save each case into DIR/NAME/in; DIR/NAME/out is
written by safetensors' save_file from the full tensors.
"""

import collections
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch_checkpointing import CheckpointManager
from torch_checkpointing.checkpoint_layout import LayoutInfo, SafetensorsSerialization
from torch_checkpointing.default_metadata import DefaultShardingMetadata
from torch_checkpointing.default_resharder import DefaultResharder
from torch_checkpointing.metadata_manager import DefaultMetadataManager
from torch_checkpointing.schema import ItemSpec
from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

RANKS = 4


def gather(self, data, process_group=None):
    """What the ranks say to one another goes through tensors on a GPU: here there is none."""
    out = [None] * dist.get_world_size()
    dist.all_gather_object(out, data)
    return dict(enumerate(out))


DefaultMetadataManager._all_gather_pickled_data = gather  # noqa: SLF001 - see gather
R, S0, S1 = Replicate(), Shard(0), Shard(1)
# name: (shape, dtype, placements on a mesh of as many dimensions); None: a plain tensor, the same everywhere
MODEL = {
    "embed.weight": ((13, 6), torch.bfloat16, (S0,)),
    "layers.0.up": ((5, 9), torch.float32, (S1,)),
    "layers.0.grid": ((7, 5), torch.float32, (S0, S1)),
    "layers.0.nested": ((11, 3), torch.float32, (S0, S0)),
    "layers.0.strided": ((12, 3), torch.float32, (_StridedShard(0, split_factor=2), S0)),
    "layers.0.hsdp": ((6, 4), torch.float16, (R, S0)),
    "layers.0.few": ((2, 3), torch.float32, (S0,)),
    "norm": ((8,), torch.float32, None),
    "scale": ((), torch.float32, None),
    "none": ((0, 4), torch.float32, (S0,)),
}
# What a rank holds of these is slices of one tensor, padding between them: rows as (begin, end) for each rank.
# torch 2.13 and 2.14 cannot torch.save() a DTensor of a part of a tensor that somebody else cut.
NOT_BY_TORCH = ("layers.0.strided",)
SLICES = {"w": ((12, 3), [[(0, 2), (6, 8)], [(2, 4), (8, 10)], [(4, 6), (10, 12)], []])}


class SliceResharder(DefaultResharder):
    """Of tensors that say themselves which parts of a whole they hold."""

    def extract_sharding_metadata(self, item_key, item_value):
        return {(name,): DefaultShardingMetadata.from_tensor(t) for name, t in item_value.items()}


def full(name, shape, dtype):
    g = torch.Generator().manual_seed(sum(name.encode()))
    return torch.randn(shape, generator=g).to(dtype)


def model(meshes):
    out = {}
    for name, (shape, dtype, place) in MODEL.items():
        t = full(name, shape, dtype)
        if place and any(isinstance(p, _StridedShard) for p in place):
            # Rows by the second dimension of the mesh first, then by the first one, as FSDP over TP has them.
            mesh = meshes[2]
            i, j = mesh.get_coordinate()
            local = t.chunk(2)[j].chunk(2)[i].contiguous()
            out[name] = DTensor.from_local(local, mesh, list(place), shape=t.shape, stride=t.stride(), run_check=False)
        else:
            out[name] = t if place is None else distribute_tensor(t, meshes[len(place)], list(place), src_data_rank=None)
    return out


def slices(rank):
    out = {}
    for name, (shape, parts) in SLICES.items():
        t, mine = full(name, shape, torch.float32), parts[rank]
        local = torch.full((4 * len(mine) + 1, shape[1]), float("nan"))
        for k, (a, b) in enumerate(mine):
            local[4 * k + 1 : 4 * k + 1 + b - a] = t[a:b]
        local.global_shape = shape
        local.global_offsets = tuple((a, 0) for a, _ in mine)
        local.local_offsets = tuple((4 * k + 1, 0) for k in range(len(mine)))
        local.local_sizes = tuple((b - a, shape[1]) for a, b in mine)
        out[name] = local
    return out


def save(where, items, payload):
    config = CheckpointManager.Config.with_sync_save()
    config.items = items
    config.storage_config = LocalFileSystemStorageConfig(use_direct_io=False)
    manager = config.build()
    manager.save(str(where), payload)
    manager.close()


def layout(name):
    return LayoutInfo(f"{name}_{{rank}}.safetensors", SafetensorsSerialization())


def save_all(rank, root, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    meshes = {1: init_device_mesh("cpu", (RANKS,)), 2: init_device_mesh("cpu", (2, 2), mesh_dim_names=("x", "y"))}
    weights = model(meshes)
    optimizer = {"state": {name: {"exp_avg": t} for name, t in weights.items()}}
    spec = ItemSpec(layout=layout("model"), resharder=DefaultResharder())
    plain = {"lr": 0.1, "exp_avg": full("norm", *MODEL["norm"][:2])}
    save(root / "tc_train" / "in", {"model": spec, "optimizer": ItemSpec(resharder=DefaultResharder())},
         {"model": weights, "optimizer": plain, "step": 7})  # fmt: skip
    save(root / "tc_nested" / "in", {"model": ItemSpec(layout=layout("ranks/model"), resharder=DefaultResharder()),
                                     "optimizer": ItemSpec(layout=layout("optimizer"), resharder=DefaultResharder())},
         {"model": {"a": {"b": [weights["norm"], weights["embed.weight"]]}}, "optimizer": optimizer})  # fmt: skip
    torch_model = {name: t for name, t in weights.items() if name not in NOT_BY_TORCH}
    torch_model["parameter"] = torch.nn.Parameter(torch_model["layers.0.up"])
    torch_model["columns"] = full("norm", (4, 6), torch.float32).t()
    state = {i: {"exp_avg": torch_model[name], "step": 3} for i, name in enumerate(("norm", "layers.0.few"))}
    save(root / "tc_torch" / "in", {"model": ItemSpec(resharder=DefaultResharder()), "optimizer": ItemSpec(resharder=DefaultResharder())},
         {"model": collections.OrderedDict(torch_model, nested=[{"w": weights["norm"]}, 3]), "optimizer": {"state": state}, "step": 7})  # fmt: skip
    save(root / "tc_slices" / "in", {"model": ItemSpec(layout=layout("model"), resharder=SliceResharder())}, {"model": slices(rank)})
    dist.barrier()
    dist.destroy_process_group()


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
    whole = {name: full(name, shape, dtype) for name, (shape, dtype, _) in MODEL.items()}
    expected = {
        "tc_train": whole,
        "tc_nested": {"a.b.0": whole["norm"], "a.b.1": whole["embed.weight"]},
        "tc_torch": {
            **{name: t for name, t in whole.items() if name not in NOT_BY_TORCH},
            "parameter": whole["layers.0.up"].clone(),
            "columns": full("norm", (4, 6), torch.float32).t().contiguous(),
            "nested.0.w": whole["norm"].clone(),
        },
        "tc_slices": {name: full(name, shape, torch.float32) for name, (shape, _) in SLICES.items()},
    }
    for name in expected:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        mp.spawn(save_all, args=(root, os.path.join(scratch, "meeting")), nprocs=RANKS)
    for name, tensors in expected.items():
        (root / name / "out").mkdir()
        save_file(tensors, root / name / "out" / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
