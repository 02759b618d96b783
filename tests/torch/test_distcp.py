"""What real producers save with torch.distributed.checkpoint, welded, is what save_file writes of the full tensors."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import run_ranks
from runner import fails, ok, run
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

# The ranks that save; two dimensions of a mesh need two at least.
WORLDS = (1, 2, 4)


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
        self.few = nn.Parameter(torch.arange(3.0))  # fewer rows than ranks
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("steps", torch.tensor([3, 4, 5]))

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale + self.few.sum()


def across():
    return dist.get_world_size() // 2


def shard(model, mesh):
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def parallel(model, mesh):
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def without_scalar(model):
    """A scalar cannot be sharded."""
    model.scale = nn.Parameter(torch.tensor([1.5]))
    return model


def fsdp2(model):
    return shard(without_scalar(model), init_device_mesh("cpu", (dist.get_world_size(),)))


def fsdp1(model):
    """Sharded flat, and saved as ShardedTensors."""
    policy = ModuleWrapPolicy({Block})
    return FullyShardedDataParallel(without_scalar(model), auto_wrap_policy=policy, use_orig_params=True, device_id=torch.device("cpu"))


def hsdp(model):
    return shard(without_scalar(model), init_device_mesh("cpu", (2, across()), mesh_dim_names=("replicate", "shard")))


def tp(model):
    return parallel(model, init_device_mesh("cpu", (dist.get_world_size(),)))


def fsdp_tp(model):
    mesh = init_device_mesh("cpu", (across(), 2), mesh_dim_names=("dp", "tp"))
    return shard(parallel(without_scalar(model), mesh["tp"]), mesh["dp"])


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


def grid(model):
    """Both dimensions of a mesh cut a tensor, and one cuts what the other has cut already."""
    mesh = init_device_mesh("cpu", (across(), 2), mesh_dim_names=("x", "y"))

    def cut(name, shape, *places):
        full = torch.arange(torch.Size(shape).numel(), dtype=torch.bfloat16).reshape(shape)
        model.register_buffer(name, distribute_tensor(full, mesh, places))

    cut("both", (5, 7), Shard(0), Shard(1))
    cut("twice", (11, 3), Shard(0), Shard(0))
    cut("nothing", (0, 3), Shard(0), Shard(1))
    return model


def dtypes(model):
    """All that torch and safetensors share."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for i, name in enumerate(DTYPES):
        dtype = getattr(torch, name)
        bits = torch.arange(30 * dtype.itemsize, dtype=torch.uint8) % (2 if name == "bool" else 251)
        full = (bits + (0 if name == "bool" else i)).view(dtype).reshape(10, 3)
        model.register_buffer(f"of_{name}", distribute_tensor(full, mesh, [Shard(0)], src_data_rank=None))
        KNOWN[f"of_{name}"] = full
    return model


KNOWN = {}  # what gloo cannot gather


DTYPES = [n for n in ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
                      "float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
                      "float8_e8m0fnu") if hasattr(torch, n)]  # fmt: skip
MODELS = [fsdp2, fsdp1, hsdp, tp, fsdp_tp, grid, ddp, tied, odd, dtypes]
CASES = [(world, make.__name__) for world in WORLDS for make in MODELS if world > 1 or make not in (hsdp, fsdp_tp, grid)]


def full(state):
    return {k: (KNOWN[k] if k in KNOWN else whole(v)).contiguous().clone() for k, v in state.items()}


def whole(value):
    return value.full_tensor() if isinstance(value, DTensor) else value


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
    if make is fsdp1:
        options = StateDictOptions(full_state_dict=True)
        want, moments = get_model_state_dict(model, options=options), get_optimizer_state_dict(model, optimizer, options=options)
    else:
        want, moments = full(state["model"]), state["optimizer"]
    dcp.save(state, checkpoint_id=f"{where}/all")
    dcp.save({"model": state["model"]}, checkpoint_id=f"{where}/model")
    dcp.save(state["model"], checkpoint_id=f"{where}/flat", planner=dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True))
    if make is not fsdp1:  # torch cannot copy a ShardedTensor away
        dcp.async_save(state, checkpoint_id=f"{where}/async").result()
    for _ in range(2):  # the second time the plan is the cached one
        dcp.save(state, checkpoint_id=f"{where}/cached", planner=dcp.DefaultSavePlanner(enable_plan_caching=True))
    moments = full_optimizer(moments)
    if dist.get_rank() == 0:
        save_file(want, f"{where}/want.safetensors", metadata={"format": "pt"})
        save_file(moments, f"{where}/optimizer.safetensors")
    dist.barrier()


def full_optimizer(state):
    return {f"optimizer.state.{n}.{k}": v for n, group in state["state"].items() for k, v in full(group).items()}


def save(top):
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for make in MODELS:
        if os.path.isdir(f"{top}/{make.__name__}"):
            save_one(make, f"{top}/{make.__name__}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{(ranks, name): where its checkpoints are}"""
    top = tmp_path_factory.mktemp("distcp")
    out = {(world, name): top / str(world) / name for world, name in CASES}
    for where in out.values():
        where.mkdir(parents=True)
    for world in WORLDS:
        run_ranks(world, __file__, str(top / str(world)))
    return out


# How each kind of save is welded: ranks and options. What few ranks saved is welded once.
WAYS = {"all": [(None, []), (3, ["--assign", "owner"]), (5, ["--buffer-size", "4KiB"])], "model": [(2, [])],
        "flat": [(1, ["--buffer-size", "4KiB"])], "async": [(2, ["--assign", "owner", "--buffer-size", "4KiB"])],
        "cached": [(None, [])]}  # fmt: skip


@pytest.mark.parametrize("world, make", CASES)
@pytest.mark.parametrize("kind", WAYS)
def test_the_model(saved, world, make, kind, tmp_path):
    where = saved[world, make]
    if make == "fsdp1" and kind == "async":
        assert not (where / kind).exists()
        return
    want = (where / "want.safetensors").read_bytes()
    for i, (np, more) in enumerate(WAYS[kind] if world == max(WORLDS) else [(None, [])]):
        ok(run(["consolidate", "-q", *more, where / kind, tmp_path / f"out{i}"], np=np))
        assert (tmp_path / f"out{i}" / "model.safetensors").read_bytes() == want
        ok(run(["verify", "-q", where / kind, tmp_path / f"out{i}"], np=np))


@pytest.mark.parametrize("world, make", [(4, "fsdp2"), (4, "fsdp_tp"), (4, "tp"), (2, "fsdp1"), (1, "tied")])
def test_the_optimizer_when_asked_for(saved, world, make, tmp_path):
    where = saved[world, make]
    ok(run(["consolidate", "-q", "--include", "optimizer.*", where / "all", tmp_path / "out"], np=2))
    same(load_file(tmp_path / "out" / "model.safetensors"), load_file(where / "optimizer.safetensors"))


def same(got, want):
    assert sorted(got) == sorted(want)
    assert all(torch.equal(got[n], want[n]) and got[n].dtype == want[n].dtype for n in want)


def merged(where, scratch):
    """As accelerate merges them; beside its own safetensors it takes one directory of torch's."""
    from accelerate.utils import merge_fsdp_weights

    merge_fsdp_weights(str(where), str(scratch), safe_serialization=True)
    return load_file(*scratch.rglob("*.safetensors"))


@pytest.mark.parametrize("world, make", [(4, "fsdp2"), (2, "fsdp1"), (4, "hsdp")])
def test_as_accelerate_merges_it(saved, world, make, tmp_path):
    where = saved[world, make] / "model"
    ok(run(["consolidate", "-q", where, tmp_path / "ours"], np=2))
    same(load_file(tmp_path / "ours" / "model.safetensors"), merged(where, tmp_path / "theirs"))


def test_a_save_that_is_killed(saved, tmp_path):
    """At the moment when torch gives .metadata its name, once into an empty directory and once over another save."""
    kill = (
        "import os, sys, torch, torch.distributed.checkpoint as dcp\n"
        "dcp.filesystem.FileSystem.rename = lambda *_: os._exit(9)\n"
        "dcp.filesystem.FileSystem.rm_file = lambda *_: os._exit(9)\n"
        "dcp.save({'w': torch.ones(5)}, checkpoint_id=sys.argv[1])\n"
    )
    shutil.copytree(saved[2, "fsdp2"] / "flat", tmp_path / "over")
    for where in (tmp_path / "new", tmp_path / "over"):
        assert subprocess.run([sys.executable, "-c", kill, where], check=False).returncode == 9
        fails(run(["consolidate", where, tmp_path / "out"]), 3, "never ended")
        assert not (tmp_path / "out").exists()


def test_trainer_with_fsdp(tmp_path):
    """transformers' Trainer saves through accelerate; the weld of it has the logits of the model that was trained."""
    from models_zoo import IDS, make
    from transformers import AutoModelForCausalLM

    run_ranks(2, os.path.join(os.path.dirname(__file__), "trainer_save.py"), str(tmp_path / "run"))
    where = tmp_path / "run" / "checkpoint-2" / "pytorch_model_fsdp_0"
    make("llama").save_pretrained(tmp_path / "assets")
    ok(run(["consolidate", "-q", "--assets", tmp_path / "assets", where, tmp_path / "ours"], np=2))
    ok(run(["verify", "-q", "--assets", tmp_path / "assets", where, tmp_path / "ours"]))
    same(load_file(tmp_path / "ours" / "model.safetensors"), merged(where, tmp_path / "theirs"))
    state = torch.load(tmp_path / "run" / "state.pt")
    same(load_file(tmp_path / "ours" / "model.safetensors"), state)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    got = model(IDS).logits
    model = type(model)(model.config).eval()
    model.load_state_dict(state)
    assert torch.equal(got, model(IDS).logits)


if __name__ == "__main__":
    save(sys.argv[1])
