"""What any torch since 2.4 saves as a distributed checkpoint, by calls that all of them have. It needs torch and safetensors alone:

    make check-torch TORCH=2.4.1 TORCH_TESTS=tests/torch/test_any_torch.py TORCH_PACKAGES='torch==2.4.1 numpy==1.26.4 safetensors pytest'
"""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from runner import ok, run
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh

try:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
except ImportError:  # before 2.5
    from torch.distributed._tensor import Replicate, Shard, distribute_tensor
try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # before 2.6
    from torch.distributed._composable.fsdp import fully_shard

RANKS = 4
# name: (shape, dtype, placements on a mesh of as many dimensions); None: a plain tensor
TENSORS = {
    "rows": ((13, 6), torch.bfloat16, (Shard(0),)),
    "columns": ((5, 9), torch.float32, (Shard(1),)),
    "grid": ((7, 5), torch.float32, (Shard(0), Shard(1))),
    "nested": ((11, 3), torch.float32, (Shard(0), Shard(0))),
    "hsdp": ((6, 4), torch.float16, (Replicate(), Shard(0))),
    "few": ((2, 3), torch.float32, (Shard(0),)),
    "norm": ((8,), torch.float32, None),
    "scale": ((), torch.float64, None),
    "none": ((0, 4), torch.float32, (Shard(0),)),
}
KINDS = ("flat", "training", "async", "lowest", "fsdp2")


def full(name):
    shape, dtype, _ = TENSORS[name]
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(name.encode()))).to(dtype)


def view():
    return torch.arange(48.0).reshape(8, 6).t()[1:4, ::2]


def save(rank, where, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    meshes = {1: init_device_mesh("cpu", (RANKS,)), 2: init_device_mesh("cpu", (2, 2), mesh_dim_names=("x", "y"))}
    model = {n: full(n) if p is None else distribute_tensor(full(n), meshes[len(p)], list(p)) for n, (_, _, p) in TENSORS.items()}
    model["view"] = view()
    optimizer = {"state": {n: {"exp_avg": t, "step": torch.tensor(3.0)} for n, t in model.items()}, "lr": 0.1}
    dcp.save(model, checkpoint_id=f"{where}/flat")
    dcp.save({"model": model, "optimizer": optimizer, "step": 7}, checkpoint_id=f"{where}/training")
    dcp.async_save({"model": model}, checkpoint_id=f"{where}/async").result()
    dcp.save(model, checkpoint_id=f"{where}/lowest", planner=dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True))
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3))
    whole = {name: t.clone() for name, t in net.state_dict().items()}
    for layer in net:
        fully_shard(layer, mesh=meshes[1])
    fully_shard(net, mesh=meshes[1])
    dcp.save({"model": net.state_dict()}, checkpoint_id=f"{where}/fsdp2")
    if rank == 0:
        for kind in KINDS:
            tensors = whole if kind == "fsdp2" else {**{n: full(n) for n in TENSORS}, "view": view().contiguous()}
            save_file(tensors, f"{where}/{kind}.safetensors", metadata={"format": "pt"})
    dist.barrier()
    os._exit(0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    where = tmp_path_factory.mktemp("any")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, __file__, where], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return where


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_weld(saved, kind, np, tmp_path):
    for assign in ("band", "owner"):
        words = ["consolidate", "-q", "--single-file", "--assign", assign, "--buffer-size", "4KiB"]
        ok(run([*words, saved / kind, tmp_path / assign], np=np))
        assert (tmp_path / assign / "model.safetensors").read_bytes() == (saved / f"{kind}.safetensors").read_bytes()


if __name__ == "__main__":
    mp.spawn(save, args=(sys.argv[1], os.path.join(sys.argv[1], "meeting")), nprocs=RANKS)
