"""What real producers save with torch.distributed.checkpoint, welded, is what save_file writes of the full tensors."""

import sys

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import run_ranks
from runner import ok, run
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

RANKS = 4


class Block(nn.Module):
    """Sizes that 4 and 2 do not divide, but for those that tensor parallelism cuts."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(9, 16, bias=False)
        self.down = nn.Linear(16, 9, bias=False)
        self.norm = nn.LayerNorm(9)

    def forward(self, x):
        return self.norm(x + self.down(self.up(x)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(13, 9)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(9, 13, bias=False)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("steps", torch.tensor([3, 4, 5]))

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale


def shard(model, mesh):
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def parallel(model, mesh):
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def fsdp2(model):
    # A scalar cannot be sharded.
    model.scale = nn.Parameter(torch.tensor([1.5]))
    return shard(model, init_device_mesh("cpu", (RANKS,)))


def hsdp(model):
    model.scale = nn.Parameter(torch.tensor([1.5]))
    return shard(model, init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))


def tp(model):
    return parallel(model, init_device_mesh("cpu", (RANKS,)))


def fsdp_tp(model):
    model.scale = nn.Parameter(torch.tensor([1.5]))
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    return shard(parallel(model, mesh["tp"]), mesh["dp"])


def ddp(model):
    return nn.parallel.DistributedDataParallel(model)


def tied(model):
    model.head.weight = model.embed.weight
    return model


def odd(model):
    """Tensors that do not lie row by row, and parts of larger ones."""
    model.register_buffer("turned", torch.arange(30.0).reshape(5, 6).t())
    model.register_buffer("part", torch.arange(40).reshape(5, 8)[1:4, 2:7])
    model.register_buffer("every", torch.arange(20, dtype=torch.int16)[::3])
    model.register_buffer("spread", torch.tensor([2.5], dtype=torch.bfloat16).expand(7, 3))
    return model


MODELS = [fsdp2, hsdp, tp, fsdp_tp, ddp, tied, odd]


def full(state):
    return {k: (v.full_tensor() if isinstance(v, DTensor) else v).contiguous().clone() for k, v in state.items()}


def train(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(dist.get_rank() if isinstance(model, nn.parallel.DistributedDataParallel) else 0)
    model(torch.randint(0, 13, (2, 5))).sum().backward()
    optimizer.step()
    return optimizer


def save_one(make, where):
    torch.manual_seed(1)
    model = make(Model())
    optimizer = train(model)
    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer), "step": 7}
    want = full(state["model"])
    dcp.save(state, checkpoint_id=f"{where}/all")
    dcp.save({"model": state["model"]}, checkpoint_id=f"{where}/model")
    dcp.save(state["model"], checkpoint_id=f"{where}/flat", planner=dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True))
    dcp.async_save(state, checkpoint_id=f"{where}/async").result()
    if dist.get_rank() == 0:
        save_file(want, f"{where}/want.safetensors", metadata={"format": "pt"})
        save_file(full_optimizer(state["optimizer"]), f"{where}/optimizer.safetensors")
    else:
        full_optimizer(state["optimizer"])
    dist.barrier()


def full_optimizer(state):
    return {f"optimizer.state.{n}.{k}": v for n, group in state["state"].items() for k, v in full(group).items()}


def save(top):
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for make in MODELS:
        save_one(make, f"{top}/{make.__name__}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    top = tmp_path_factory.mktemp("distcp")
    for make in MODELS:
        (top / make.__name__).mkdir()
    run_ranks(RANKS, __file__, str(top))
    return top


@pytest.mark.parametrize("make", [m.__name__ for m in MODELS])
@pytest.mark.parametrize("kind", ["all", "model", "flat", "async"])
def test_the_model(saved, make, kind, tmp_path):
    where = saved / make
    want = (where / "want.safetensors").read_bytes()
    ways = {"all": [(None, []), (3, ["--assign", "owner"]), (5, ["--buffer-size", "4KiB"])], "model": [(2, [])],
            "flat": [(1, ["--buffer-size", "4KiB"])], "async": [(2, ["--assign", "owner"])]}  # fmt: skip
    for i, (np, more) in enumerate(ways[kind]):
        ok(run(["consolidate", "-q", *more, where / kind, tmp_path / f"out{i}"], np=np))
        assert (tmp_path / f"out{i}" / "model.safetensors").read_bytes() == want
        ok(run(["verify", "-q", where / kind, tmp_path / f"out{i}"], np=np))


@pytest.mark.parametrize("make", ["fsdp2", "fsdp_tp", "tp"])
def test_the_optimizer_when_asked_for(saved, make, tmp_path):
    where = saved / make
    ok(run(["consolidate", "-q", "--include", "optimizer.*", where / "all", tmp_path / "out"], np=2))
    got, want = load_file(tmp_path / "out" / "model.safetensors"), load_file(where / "optimizer.safetensors")
    assert sorted(got) == sorted(want) and all(torch.equal(got[n], want[n]) and got[n].dtype == want[n].dtype for n in want)


@pytest.mark.parametrize("make", ["fsdp2", "hsdp"])
def test_as_accelerate_merges_it(saved, make, tmp_path):
    from accelerate.utils import merge_fsdp_weights

    merge_fsdp_weights(str(saved / make / "model"), str(tmp_path / "theirs"), safe_serialization=True)
    ok(run(["consolidate", "-q", saved / make / "model", tmp_path / "ours"], np=2))
    theirs = [load_file(p) for p in (tmp_path / "theirs").rglob("*.safetensors")]
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    assert len(theirs) == 1 and sorted(theirs[0]) == sorted(ours)
    assert all(torch.equal(ours[n], theirs[0][n]) and ours[n].dtype == theirs[0][n].dtype for n in ours)


if __name__ == "__main__":
    save(sys.argv[1])
