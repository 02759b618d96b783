"""dcp.async_save() with our writer while the training goes on over the default process group: nothing waits for anything, and what is
written is what was there when it was called. On 2 and 4 gloo ranks, in a thread and in a process; failures and kills too."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
os.environ["SHARDWELD_LIBRARY"] = os.path.abspath(os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build")))
sys.path.insert(0, os.path.join(ROOT, "python"))

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import meeting
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import shardweld
from shardweld.dcp import StorageWriter
from shardweld.io import load

SHAPE = (512, 1024)


def state_of(mesh, step):
    """A model after so many steps: its bytes tell them."""
    return {f"layer.{i}": distribute_tensor(torch.full(SHAPE, float(100 * i + step)), mesh, [Shard(i % 2)]) for i in range(4)}


def check(path, step):
    got = load(path, framework="torch")
    assert sorted(got) == [f"layer.{i}" for i in range(4)]
    for i in range(4):
        assert got[f"layer.{i}"].shape == SHAPE and (got[f"layer.{i}"] == 100 * i + step).all(), (i, step)


def train_until(future, state):
    """All-reduce, and change the parameters, until every rank has its checkpoint; how often."""
    for rounds in range(1 << 20):
        done = torch.tensor([1.0 if future is None or future.done() else 0.0])
        dist.all_reduce(done, op=dist.ReduceOp.MIN)
        for tensor in state.values():
            tensor.to_local().add_(1000)
        if done.item():
            return rounds
    raise AssertionError("it never ends")


def files_of(path):
    return sorted(name for name in os.listdir(path)) if os.path.exists(path) else []


# ---- what the ranks do ------------------------------------------------------------------------------------------------


def train(top, kind):
    """Save after save, each to its own place and then all to one; the group for checkpoints is not the default one."""
    group = dist.new_group(backend="gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    kinds = {"shards": {"save_distributed": True}, "consolidated": {"save_distributed": True, "enable_consolidation": True}}
    for step, (how, to) in enumerate([("shards", "a"), ("consolidated", "b"), ("consolidated", "b"), ("shards", "a")]):
        path, state = os.path.join(top, to), state_of(mesh, step)
        writer = StorageWriter(path, no_sync=True, manifest=step > 1, **kinds[how])
        which = AsyncCheckpointerType.PROCESS if kind == "process" else AsyncCheckpointerType.THREAD
        future = dcp.async_save(state, storage_writer=writer, process_group=group, async_checkpointer_type=which)
        train_until(future, state)
        future.result()
        dist.barrier()
        if dist.get_rank() == 0:
            check(path, step)
            expected = ["model-00001-of-00001.safetensors", "model.safetensors.index.json"]
            if how == "shards":
                expected = [f"shard-0000{r + 1}-model-00001-of-00001.safetensors" for r in range(dist.get_world_size())]
            assert files_of(path) == expected + ["shardweld.manifest.json"] * (step > 1)
            assert step < 2 or shardweld.check(path, comm="self")
        dist.barrier()


def plans_are_cached(top, _kind):
    """A planner that leaves out the plans that have not changed."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for step in range(3):
        path = os.path.join(top, str(step))
        planner = DefaultSavePlanner(enable_plan_caching=True)
        dcp.save(state_of(mesh, step), storage_writer=StorageWriter(path, save_distributed=step != 1), planner=planner)
        dist.barrier()
        check(path, step)


class Spoils(DefaultSavePlanner):
    """A rank that comes to grief: when its data are asked for, or when its plan is finished."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def spoil(self, step):
        if self.how == f"{step} {dist.get_rank()}":
            raise RuntimeError("it came to grief")
        if self.how == f"kill {step} {dist.get_rank()}":
            os.kill(os.getpid(), signal.SIGKILL)

    def resolve_data(self, item):
        if item.index.fqn == "layer.2":
            self.spoil("resolve")
        return super().resolve_data(item)

    def finish_plan(self, plan):
        self.spoil("finish")
        return super().finish_plan(plan)


def one_fails(top, _kind):
    """Every rank hears of it, what was there stays, nothing else does, and the same place can be saved to again."""
    last, path = dist.get_world_size() - 1, os.path.join(top, "x")
    mesh = init_device_mesh("cpu", (last + 1,))
    for consolidate in (False, True):
        options = {"save_distributed": True, "enable_consolidation": consolidate}
        dcp.save(state_of(mesh, 1), storage_writer=StorageWriter(path, **options))
        for how in ("resolve 0", f"resolve {last}", f"finish {last}"):
            before = files_of(path)
            try:
                dcp.save(state_of(mesh, 2), storage_writer=StorageWriter(path, **options), planner=Spoils(how))
                raise AssertionError("no error")
            except CheckpointException as e:
                said = str(e) + str(e.failures)
                assert "it came to grief" in said and ("finish" in how or f"(rank {how[-1]} on " in said), said
            dist.barrier()
            # Nobody tells the writer of what a planner does in finish_plan(): its next save tidies up.
            hidden = [".shardweld-staging"] if "finish" in how else []
            assert files_of(path) in (before, sorted(hidden + before)) and files_of(top) == ["x"]
            dist.barrier()
        dcp.save(state_of(mesh, 3), storage_writer=StorageWriter(path, **options))
        dist.barrier()
        check(path, 3)
        dist.barrier()
        if dist.get_rank() == 0:
            for name in files_of(path):
                os.unlink(os.path.join(path, name))
        dist.barrier()


def one_is_killed(top, how):
    """The others end with an error."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    writer = StorageWriter(os.path.join(top, "x"), save_distributed=True, enable_consolidation="consolidated" in how)
    with contextlib.suppress(RuntimeError, CheckpointException):
        dcp.save(state_of(mesh, 2), storage_writer=writer, planner=Spoils(how.split(",")[0]))
    os._exit(7)


# ---- running them -----------------------------------------------------------------------------------------------------


def run(function, top, world, kind="", timeout=150):
    """So many ranks; their exit statuses."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **meeting(world)}
    command = [sys.executable, __file__, function.__name__, str(top), kind]
    ranks = [subprocess.Popen(command, env={**env, "RANK": str(r)}, start_new_session=True) for r in range(world)]
    end = time.monotonic() + timeout
    try:
        return [p.wait(timeout=max(end - time.monotonic(), 0.1)) for p in ranks]
    finally:  # what hangs, and what it has started
        for p in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()


@pytest.mark.parametrize("world, kind", [(2, "thread"), (4, "thread"), (2, "process")])
def test_training_goes_on(tmp_path, world, kind):
    assert run(train, tmp_path, world, kind) == [0] * world


def test_plans_are_cached(tmp_path):
    assert run(plans_are_cached, tmp_path, 2) == [0, 0]


def test_one_fails(tmp_path):
    assert run(one_fails, tmp_path, 2) == [0, 0]


@pytest.mark.parametrize("how", [f"kill resolve {rank},{kind}" for rank in (0, 1) for kind in ("shards", "consolidated")])
def test_one_is_killed(tmp_path, how):
    """Nothing is half-made, and the next save finds its way."""
    killed = int(how.split(",")[0][-1])
    statuses = run(one_is_killed, tmp_path, 2, how)
    assert statuses[killed] == -signal.SIGKILL and statuses[1 - killed] == 7
    assert [name for name in files_of(tmp_path / "x") if not name.startswith(".")] == []
    writer = StorageWriter(tmp_path / "x", save_distributed=True, enable_consolidation="consolidated" in how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"w": torch.ones(3)}, storage_writer=writer, no_dist=True)
    names = {"consolidated": ["model-00001-of-00001.safetensors", "model.safetensors.index.json"], "shards": ["shard-00001-model-00001-of-00001.safetensors"]}
    assert files_of(tmp_path) == ["x"] and files_of(tmp_path / "x") == names[how.split(",")[1]]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    globals()[sys.argv[1]](sys.argv[2], sys.argv[3])
    dist.destroy_process_group()
