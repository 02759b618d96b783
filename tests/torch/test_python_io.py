"""The Python package's load(), save() and storage classes on 1, 2 and 4 gloo ranks, against torch's own reader and writer."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
import warnings
from itertools import product
from math import prod

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build")))
os.environ["SHARDWELD_LIBRARY"] = BUILD
sys.path.insert(0, os.path.join(ROOT, "python"))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

import oracle
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import meeting
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

import shardweld
from shardweld.dcp import QuantizedStorageReader, StorageReader, StorageWriter
from shardweld.io import Box, load, save

R, S0, S1 = Replicate(), Shard(0), Shard(1)
TENSORS = {
    "rows": (torch.bfloat16, (16, 12)),
    "uneven": (torch.int32, (7, 5)),
    "few": (torch.float32, (2, 9)),
    "scalar": (torch.float32, ()),
    "mask": (torch.bool, (9, 4)),
    "vector": (torch.float64, (11,)),
    "fp8": (torch.float8_e4m3fn, (8, 8)),
    "conv": (torch.float16, (4, 3, 5, 2)),
    "empty": (torch.float32, (0, 4)),
}
FILES = {name: 1 + i % 2 for i, name in enumerate(TENSORS)}


def full_tensors():
    generator = torch.Generator().manual_seed(7)
    out = {}
    for name, (dtype, shape) in TENSORS.items():
        top = 2 if dtype == torch.bool else 120  # no NaN
        raw = torch.randint(0, top, (prod(shape) * dtype.itemsize,), dtype=torch.uint8, generator=generator)
        out[name] = raw.view(dtype).reshape(shape)
    return out


def raw_bytes(tensor):
    tensor = tensor.detach()
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def same(ours, theirs):
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and raw_bytes(ours) == raw_bytes(theirs)


def local_part(full, mesh, placements):
    """What torch itself would give this rank; through integers, since few operations know FP8."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    local, at = full.view(kinds[full.dtype.itemsize]), mesh.get_coordinate()
    for dim, place in enumerate(placements):
        if isinstance(place, (Shard, _StridedShard)):
            pieces, _ = place._split_tensor(local, mesh.size(dim), with_padding=False, contiguous=False)
            local = pieces[at[dim]] if at[dim] < len(pieces) else local.narrow(place.dim, 0, 0)
    return local.contiguous().view(full.dtype)


def dtensor(full, mesh, placements, blank=False):
    local = local_part(full, mesh, placements)
    if blank:
        local = torch.full_like(local.view(torch.uint8), 77).view(local.dtype) if local.numel() and local.dim() else torch.zeros_like(local)
    stride = torch.empty(full.shape, device="meta").stride()
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=full.shape, stride=stride)


def placed(placements, tensor):
    """Those that a tensor of so many dimensions can have."""
    return [p if not isinstance(p, Shard) or p.dim < tensor.dim() else R for p in placements]


def state_of(mesh, placements, blank=False):
    return {n: dtensor(t, mesh, placed(placements, t), blank) for n, t in full_tensors().items()}


def layouts(world):
    """(mesh, placements) that are saved from and loaded onto."""
    out = [((world,), [p]) for p in ((S0, R) if world == 4 else (S0, S1, R))]
    if world == 4:
        out += [((2, 2), list(p)) for p in ((S0, S1), (R, S0), (S0, S0), (S1, R))]
    return out


def quiet(function, *args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **more)


def fails(kind, text, function, *args, **more):
    """Every rank must get the error."""
    try:
        quiet(function, *args, **more)
    except kind as e:
        assert text in str(e) + "".join(map(str, getattr(e, "failures", {}).values())), str(e)
        return
    raise AssertionError(f"no error with {text!r}")


class Job:
    """One rank: where things are, and the meshes."""

    def __init__(self, top):
        self.top, self.rank, self.world = top, dist.get_rank(), dist.get_world_size()
        self.meshes = {m: init_device_mesh("cpu", m, mesh_dim_names=("a", "b")[: len(m)]) for m in sorted({m for m, _ in layouts(self.world)})}

    def some(self, first):
        """(number, mesh, placements), with four ranks half of them, from the first or the second on."""
        every = [(i, *layout) for i, layout in enumerate(layouts(self.world))]
        return every[first::2] if self.world == 4 else every

    def path(self, name):
        dist.barrier()
        return os.path.join(self.top, name)

    # ---- the storage reader ---------------------------------------------------------------------------------------

    def check_reader(self):
        """Every mesh and placement to every other, from torch's shards; beside torch's own reader."""
        full, planned = full_tensors(), layouts(self.world)
        for i, (saved, there) in enumerate(planned):
            path = self.path(f"reader {i}")
            quiet(dcp.save, state_of(self.meshes[saved], there), storage_writer=HuggingFaceStorageWriter(path, save_distributed=True))
            for k, (mesh, onto) in enumerate(planned):
                if (i + k) % 3 and self.world == 4:  # a third of them
                    continue
                ours = state_of(self.meshes[mesh], onto, blank=True)
                comm = None if k % 2 else "self"
                quiet(dcp.load, ours, storage_reader=StorageReader(path, thread_count=1 + k % 3, comm=comm))
                want = state_of(self.meshes[mesh], onto)
                assert all(same(ours[n].to_local(), want[n].to_local()) for n in full)
                if i == k:
                    theirs = state_of(self.meshes[mesh], onto, blank=True)
                    quiet(dcp.load, theirs, storage_reader=HuggingFaceStorageReader(path))
                    assert all(same(ours[n].to_local(), theirs[n].to_local()) for n in full)
            theirs = HuggingFaceStorageReader(path).read_metadata().storage_data
            reader = StorageReader(path)
            stored = reader.read_metadata().storage_data
            reader.reset()
            assert pickle.loads(pickle.dumps(stored)) == {k: v for k, v in theirs.items() if prod(v.shape)} == dict(stored)

    def check_classes(self):
        """They pass for torch's, and in an async save too."""
        reader, writer = StorageReader("x"), StorageWriter("x")
        assert isinstance(reader, HuggingFaceStorageReader) and isinstance(writer, HuggingFaceStorageWriter)
        assert issubclass(QuantizedStorageReader, StorageReader) and issubclass(QuantizedStorageReader, QuantizedHuggingFaceStorageReader) and not isinstance(reader, QuantizedHuggingFaceStorageReader)
        assert reader.checkpoint_id == writer.checkpoint_id == writer.path == "x" and isinstance(pickle.loads(pickle.dumps(writer)), StorageWriter)

    def check_reader_into_others(self):
        """Transposed memory, other dtypes, whole tensors, integers from floats."""
        path, full = self.path("reader 0"), full_tensors()
        state = {
            "rows": torch.zeros(12, 16, dtype=torch.float32).T,
            "uneven": torch.zeros(7, 5, dtype=torch.float64),
            "vector": torch.zeros(11, dtype=torch.bfloat16),
            "conv": torch.zeros(4, 3, 5, 2, dtype=torch.int64),
            "scalar": torch.ones((), requires_grad=True),
            "few": torch.zeros(2, 1).expand(2, 9).clone(),
        }
        quiet(dcp.load, state, storage_reader=StorageReader(path), planner=DefaultLoadPlanner())
        for name, tensor in state.items():
            assert tensor.detach().equal(full[name].to(tensor.dtype)), name

    def check_empty_dictionary(self):
        path, full = self.path("reader 0"), full_tensors()
        got = quiet(_load_state_dict_from_keys, storage_reader=StorageReader(path, 2))
        assert sorted(got) == sorted(full) and all(same(got[n], full[n]) for n in full)
        got = quiet(_load_state_dict_from_keys, {"rows", "mask"}, storage_reader=StorageReader(path))
        assert sorted(got) == ["mask", "rows"] and same(got["rows"], full["rows"])

    def quantized(self, name, block, more):
        """A checkpoint with scales, with the index that torch's reader wants; (path, tensors)."""
        path, generator = self.path(name), torch.Generator().manual_seed(3)
        tensors = {"b.bias": torch.randn(7, generator=generator), **more}
        for i, kind in enumerate((torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.bfloat16, torch.float32, torch.float16, torch.int32)):
            scales = torch.rand(-(-300 // block), -(-130 // block), generator=generator).to((torch.float32, torch.bfloat16)[i % 2])
            weight = torch.randn(300, 130, generator=generator) * (1 if kind.is_floating_point else 60)
            tensors |= {f"{i}.weight": weight.to(kind), f"{i}.weight_scale_inv": scales}
        if self.rank == 0:
            os.mkdir(path)
            save_file(tensors, os.path.join(path, "model.safetensors"))
            with open(os.path.join(path, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
                json.dump({"metadata": {}, "weight_map": dict.fromkeys(tensors, "model.safetensors")}, f)
        dist.barrier()
        return path, tensors

    def same_as_theirs(self, path, tensors, kind, pairs):
        """Parts of every matrix, and a vector, into tensors of a kind."""
        mesh, got = self.meshes[(self.world,)], []
        for reader in pairs:
            state = {n: dtensor(torch.zeros(t.shape, dtype=kind), mesh, [S0]) for n, t in tensors.items() if n.endswith("weight")}
            state |= {"b.bias": dtensor(torch.zeros(7), mesh, [S0])}
            quiet(dcp.load, state, storage_reader=reader)
            got.append(state)
        assert all(same(got[0][n].to_local(), got[1][n].to_local()) for n in got[0])

    def check_quantized(self):
        """Each of the two readers gives what torch's of its kind gives, whatever is saved with the scales of blocks."""
        more = {
            "x_blocks": (blocks := torch.randint(0, 256, (3, 10, 6, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))),
            "x_scales": torch.randint(110, 140, (3, 10, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)),
        }
        path, tensors = self.quantized("quantized", 128, more)
        mine, theirs = QuantizedStorageReader, QuantizedHuggingFaceStorageReader
        for target, kind in product((torch.float32, torch.bfloat16, torch.float16), (torch.float32, torch.bfloat16)):
            self.same_as_theirs(path, tensors, kind, (mine(path, target_dtype=target), theirs(path, target_dtype=target)))
        self.same_as_theirs(path, tensors, torch.bfloat16, (mine(path), theirs(path)))  # the defaults
        for kind in (torch.float32, torch.bfloat16, torch.float16):
            self.same_as_theirs(path, tensors, kind, (StorageReader(path), HuggingFaceStorageReader(path)))
        for block in (64, 32):
            other, tensors_64 = self.quantized(f"quantized {block}", block, {})
            self.same_as_theirs(other, tensors_64, torch.float32, (mine(other, 1, torch.float32, block), theirs(other, 1, torch.float32, block)))
            state = {"b.bias": torch.zeros(7), "2.weight": torch.zeros(300, 130)}
            with pytest.raises(CheckpointException, match="blocks of 128x128"):
                quiet(dcp.load, state, storage_reader=mine(other))
            quiet(dcp.load, {"b.bias": torch.zeros(7), "2.weight": torch.zeros(300, 130, dtype=torch.int8)}, storage_reader=mine(other))
            with pytest.raises(CheckpointException, match="blocks of 128x128"):  # as it is saved, but no numbers without their scales
                quiet(dcp.load, {"3.weight": torch.zeros(300, 130, dtype=torch.bfloat16)}, storage_reader=mine(other))
            dist.barrier()
        whole = {"x_blocks": torch.zeros(3, 10, 192)}
        quiet(dcp.load, whole, storage_reader=QuantizedStorageReader(path))
        ours = load(path, dtype=torch.float32, framework="torch")
        assert sorted(ours) == ["0.weight", *(f"{i}.weight" for i in range(1, 7)), "b.bias", "x_blocks"] and same(ours["x_blocks"], whole["x_blocks"])
        # Low nibble first, then its scale.
        first = blocks[0, 0, 0, 0].item()
        values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
        power = 2.0 ** (tensors["x_scales"][0, 0, 0].item() - 127)
        assert whole["x_blocks"][0, 0, :2].tolist() == [values[first & 15] * power, values[first >> 4] * power]

    # ---- the storage writer ---------------------------------------------------------------------------------------

    def check_writer_shards(self):
        """The same files as torch's writer but for what tells of lost ones, with its planner's choice of who writes a replica."""
        for i, mesh, there in self.some(1):
            files = FILES if i % 3 else None
            a, b = self.path(f"shards {i} ours"), self.path(f"shards {i} theirs")
            for path, kind in ((a, StorageWriter), (b, HuggingFaceStorageWriter)):
                state = state_of(self.meshes[mesh], there)
                writer = kind(path, files, save_distributed=True, **({"no_sync": True} if kind is StorageWriter else {}))
                quiet(dcp.save, state, storage_writer=writer, planner=DefaultSavePlanner(dedup_save_to_lowest_rank=i > 3))
            dist.barrier()
            if self.rank == 0:
                assert as_torch(a) == as_torch(b), (mesh, there, files)

    def check_writer_consolidated(self):
        """Byte for byte what save_file writes of the full tensors; twice, to replace the first."""
        full = full_tensors()
        for i, mesh, there in self.some(0):
            path = self.path(f"consolidated {i}")
            for files in (None, FILES)[i > 1 :]:
                writer = StorageWriter(path, files, save_distributed=True, enable_consolidation=True, no_sync=True)
                quiet(dcp.save, state_of(self.meshes[mesh], there), storage_writer=writer)
            dist.barrier()
            if self.rank == 0:
                for k in (1, 2):
                    want = os.path.join(self.top, f"want {k}")
                    save_file({n: t for n, t in full.items() if FILES[n] == k}, want, metadata={"format": "pt"})
                    assert tree(path)[f"model-0000{k}-of-00002.safetensors"] == tree(want)[""]
                assert sorted(tree(path))[2:] == ["model.safetensors.index.json"]

    def check_fsdp(self):
        """A model that FSDP2 shards, saved and loaded onto another mesh; the parameters are trained on."""

        def model(mesh):
            torch.manual_seed(5)
            layers = torch.nn.Sequential(torch.nn.Linear(7, 11), torch.nn.Linear(11, 3))
            fully_shard(layers[0], mesh=mesh)
            fully_shard(layers, mesh=mesh)
            return layers

        meshes = [self.meshes[(self.world,)], self.meshes.get((2, 2), self.meshes[(self.world,)])]
        for consolidation in (False, True):
            path = self.path(f"fsdp {consolidation}")
            first, second = model(meshes[0]), model(meshes[1])
            writer = StorageWriter(path, save_distributed=True, enable_consolidation=consolidation)
            quiet(dcp.save, first.state_dict(), storage_writer=writer)
            for parameter in second.parameters():
                torch.nn.init.zeros_(parameter.to_local())
            state = second.state_dict()
            quiet(dcp.load, state, storage_reader=StorageReader(path))
            second.load_state_dict(state)
            for name, tensor in first.state_dict().items():
                assert tensor.full_tensor().equal(second.state_dict()[name].full_tensor())

    def check_async(self):
        path, mesh, full = self.path("async"), self.meshes[(self.world,)], full_tensors()
        # torch's staging fails on parts that are empty or share memory.
        state = {n: dtensor(full[n], mesh, [S0]).clone() for n in ("rows", "vector", "conv")}
        writer = StorageWriter(path, save_distributed=True)
        quiet(dcp.async_save, state, storage_writer=writer).result()
        got = load(path, framework="torch")
        assert sorted(got) == sorted(state) and all(same(got[n], full[n]) for n in state)

    def check_no_dist(self):
        """One rank by itself while the others do something else."""
        path, full = self.path("no dist"), full_tensors()
        if self.rank == 0:
            quiet(dcp.save, dict(full), storage_writer=StorageWriter(path), no_dist=True)
            got = {n: torch.zeros_like(t.view(torch.uint8) if t.dim() else t).view(t.dtype) for n, t in full.items()}
            quiet(dcp.load, got, storage_reader=StorageReader(path), no_dist=True)
            assert all(same(got[n], full[n]) for n in full)
            assert all(same(t, full[n]) for n, t in load_file(os.path.join(path, "model-00001-of-00001.safetensors")).items())
            quantized = {"a.weight": torch.ones(130, 128).to(torch.float8_e4m3fn), "a.weight_scale_inv": torch.full((2, 1), 3.0)}
            quiet(dcp.save, quantized, storage_writer=StorageWriter(path, dequantize="bf16"), no_dist=True)
            got = load(path, framework="torch")
            assert sorted(got) == ["a.weight"] and got["a.weight"].dtype == torch.bfloat16 and (got["a.weight"] == 3).all()
        # A group of some ranks; the others do nothing.
        ranks = list(range((self.world + 1) // 2))
        group = dist.new_group(ranks)
        mesh = DeviceMesh("cpu", ranks)
        path = self.path("some ranks")
        if self.rank in ranks:
            state = state_of(mesh, [S0])
            quiet(dcp.save, state, storage_writer=StorageWriter(path), process_group=group)
            got = load(path, framework="torch", comm=group)
            assert all(same(got[n], full[n]) for n in full)

    # ---- errors ---------------------------------------------------------------------------------------------------

    def check_errors(self):
        last, mesh = self.world - 1, self.meshes[(self.world,)]

        class Fails(DefaultSavePlanner):
            def resolve_data(self, item):
                if dist.get_rank() == last and item.index.fqn == "rows":
                    raise RuntimeError("cannot be resolved")
                return super().resolve_data(item)

        class FailsToo(DefaultLoadPlanner):
            def resolve_tensor(self, item):
                if dist.get_rank() == last:
                    raise RuntimeError("cannot be resolved")
                return super().resolve_tensor(item)

        class FailsLate(DefaultLoadPlanner):
            def commit_tensor(self, item, tensor):
                if dist.get_rank() == last:
                    raise RuntimeError("cannot be committed")

        path = self.path("errors")
        for consolidation in (False, True):
            writer = StorageWriter(path, save_distributed=True, enable_consolidation=consolidation)
            fails(CheckpointException, "cannot be resolved", dcp.save, state_of(mesh, [S0]), storage_writer=writer, planner=Fails())
        assert not os.path.exists(path)
        fails(CheckpointException, "'step': not a tensor", dcp.save, {"w": torch.ones(2), "step": 3}, storage_writer=StorageWriter(path))
        mapped = StorageWriter(path, {"other": 1})
        fails(CheckpointException, "tensor 'w'", dcp.save, {"w": torch.ones(2)}, storage_writer=mapped)
        fails(CheckpointException, "no such file", dcp.load, {"w": torch.ones(2)}, storage_reader=StorageReader(path + " none"))
        for comm in (None, "self"):
            reader = StorageReader(os.path.join(self.top, "reader 0"), comm=comm)
            state = state_of(mesh, [S0], blank=True)
            fails(CheckpointException, "cannot be resolved", dcp.load, state, storage_reader=reader, planner=FailsToo())
            state["rows"] = torch.zeros(16, 12, dtype=torch.int64)  # by way of other memory
            fails(CheckpointException, "cannot be committed", dcp.load, state, storage_reader=reader, planner=FailsLate())
        for kind in (StorageReader, StorageWriter):
            fails(shardweld.UsageError, "upload from there", kind, "s3://bucket/x")
            fails(shardweld.UsageError, "upload from there", kind("x").reset, "s3://bucket/x")
            assert kind("file:///a%20b").path == "/a b"
        fails(ValueError, "block_size", QuantizedStorageReader, path, block_size=0)
        fails(ValueError, "use_collectives", dcp.save, {"w": torch.ones(2)}, storage_writer=StorageWriter(path), use_collectives=False)
        kept = StorageWriter(os.path.join(self.top, "consolidated 0"), overwrite=False)
        fails(CheckpointException, "holds a checkpoint already", dcp.save, {"w": torch.ones(2)}, storage_writer=kept)
        # load() and save(): an error of one rank alone.
        bad = {"w": "text"} if self.rank == last else {"w": torch.ones(2)}
        fails(shardweld.UsageError, "a value of type str", save, path, bad)
        there = os.path.join(self.top, "reader 0")
        fails((KeyError, shardweld.UsageError), "no tensor", load, there, "none" if self.rank == last else "rows", framework="torch", comm=None)
        beyond = ((0, 0), (17, 12) if self.rank == last else (3, 12))
        fails(shardweld.UsageError, "'rows'", load, there, "rows", box=beyond, framework="torch", comm=None)
        local = torch.ones(3)
        fails(shardweld.UsageError, "Partial", save, path, {"w": DTensor.from_local(local, mesh, [Partial()], run_check=False)})
        fails(shardweld.UsageError, "meta", save, path, {"w": torch.ones(3, device="meta")})
        fails(shardweld.UsageError, "'rows': a tensor on the meta device", load, there, into={"rows": torch.ones(16, 12, device="meta")})
        if self.world > 1:
            gap = Box(torch.ones(1, 4), (self.rank + (self.rank == last), 0), (self.world + 1, 4))
            fails(shardweld.InputError, "'w'", save, path, {"w": gap})
            fails(shardweld.UsageError, "different arguments", save, path + str(self.rank), {"w": torch.ones(2)})
        assert not os.path.exists(path)

    # ---- load() and save() ----------------------------------------------------------------------------------------

    def check_load(self):
        """DTensors, parts without torch's mesh, and into what is there."""
        path, full = self.path("reader 1"), full_tensors()
        for mesh, onto in layouts(self.world):
            view = self.meshes[mesh]
            want = state_of(view, onto)
            got = load(path, mesh=view, placements=onto, threads=2, comm=None)
            plain = load(path, mesh=mesh, coordinate=view.get_coordinate(), placements=onto, framework="torch")
            into = load(path, into=state_of(view, onto, blank=True))
            for name in full:
                local = want[name].to_local()
                assert same(got[name].to_local(), local) and same(plain[name], local) and same(into[name].to_local(), local), name
                assert got[name].placements == tuple(placed(onto, full[name])) and got[name].shape == full[name].shape
        rules = {"r*": [1], "*": ["replicate"]}
        got = load(path, mesh=self.meshes[(self.world,)], placements=rules, dtype="bf16")
        assert got["rows"].placements == (S1,) and got["uneven"].placements == (R,)
        assert got["vector"].to_local().equal(full["vector"].bfloat16()) and got["mask"].to_local().equal(full["mask"])

    def check_save(self):
        """DTensors, strided ones too, and boxes by hand; arrays that are not contiguous."""
        full = full_tensors()
        for i, mesh, there in self.some(1):
            path = self.path(f"saved {i}")
            save(path, state_of(self.meshes[mesh], there), consolidated=bool(i % 3), no_sync=True)
            got = load(path, framework="torch", comm=None if i % 3 else "self")
            assert all(same(got[n], full[n]) for n in full)
        if self.world == 4:
            placements = ([_StridedShard(0, split_factor=2), R], [_StridedShard(0, split_factor=2), S0], [_StridedShard(1, split_factor=3), S1])
            matrices = {n: t for n, t in full.items() if t.dim() == 2}
            for i, strided in enumerate(placements):
                path = self.path(f"strided {i}")
                state = {n: dtensor(t, self.meshes[(2, 2)], strided) for n, t in matrices.items()}
                save(path, state, no_sync=True)
                got = load(path, framework="torch")
                assert all(same(got[n], t) for n, t in matrices.items())
                into = {n: dtensor(t, self.meshes[(2, 2)], strided, blank=True) for n, t in matrices.items()}
                load(path, into=into)
                assert all(same(into[n].to_local(), state[n].to_local()) for n in state)
        path = self.path("boxes")
        whole = torch.arange(12 * self.world * 5, dtype=torch.float32).view(-1, 5)
        mine = whole[12 * self.rank : 12 * self.rank + 12]
        tied = torch.randn(6, generator=torch.Generator().manual_seed(1))
        save(path, {
            "transposed": Box(mine.T, (0, 12 * self.rank), (5, 12 * self.world)),
            "halves": [Box(mine[:5], (12 * self.rank, 0), whole.shape), Box(mine[5:], (12 * self.rank + 5, 0), whole.shape)],
            "every other": torch.arange(20).view(4, 5)[::2, ::3], "step": 7, "tied": tied, "tied too": tied, "expanded": tied[:1].expand(4),
            "complex": torch.view_as_complex(tied.view(3, 2)).conj(),
        }, no_sync=True)  # fmt: skip
        got = load(path, framework="torch")
        assert got["transposed"].equal(whole.T) and got["halves"].equal(whole) and got["step"].item() == 7
        assert got["every other"].equal(torch.arange(20).view(4, 5)[::2, ::3]) and got["tied"].equal(got["tied too"])
        assert got["expanded"].equal(tied[:1].expand(4)) and got["complex"].equal(torch.view_as_complex(tied.view(3, 2)).conj())


def tree(path):
    """{name: bytes}."""
    if os.path.isfile(path):
        return {"": open(path, "rb").read()}
    return {name: open(os.path.join(path, name), "rb").read() for name in sorted(os.listdir(path))}


def as_torch(path):
    return {name: oracle.as_torch(data) for name, data in tree(path).items()}


CHECKS = [name for name in vars(Job) if name.startswith("check_")]


def work(top):
    """One rank: every check, in one order; what went wrong with which, on any rank, goes to a file."""
    dist.init_process_group("gloo")
    job, failed = Job(top), {}
    for check in CHECKS:
        said = None
        try:
            getattr(job, check)()
        except BaseException:
            said = traceback.format_exc()
        everybody = [None] * job.world
        dist.all_gather_object(everybody, said)
        failed[check] = "\n".join(f"rank {r}: {text}" for r, text in enumerate(everybody) if text)
        if job.rank == 0:
            with open(os.path.join(top, "failed.json"), "w", encoding="utf-8") as f:
                json.dump(failed, f)
    dist.destroy_process_group()


def start(top, world):
    """All ranks, forked from this process, so that torch is imported once. Returns when the last has ended."""
    here = meeting(world)
    for rank in range(world):
        if os.fork() == 0:
            os.environ.update(here, RANK=str(rank))
            try:
                work(top)
            finally:
                os._exit(0)
    for _ in range(world):
        os.wait()


_done = {}


@pytest.fixture
def failures(request, tmp_path_factory):
    """{check: text} of the job with so many ranks, which is run once."""
    world = request.param
    if world not in _done:
        top = _done[world] = str(tmp_path_factory.mktemp("ranks"))
        job = subprocess.Popen(
            [sys.executable, __file__, top, str(world)], env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
        )
        try:
            job.wait(timeout=150)
        finally:  # what hangs, and what it has started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()
    path = os.path.join(_done[world], "failed.json")
    failed = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else {}
    return {check: failed.get(check, "not reached") for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("failures", [1, 2, 4], indirect=True, ids=lambda n: f"np{n}")
def test_ranks(failures, check):
    assert failures[check] == "", failures[check]


@pytest.fixture
def alone(tmp_path):
    """All tensors, consolidated."""
    save_file(full_tensors(), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("mmap", [False, True])
def test_device(alone, mmap, monkeypatch):
    """There is none here but the host and torch's meta, which keeps shapes alone: what is on its way takes no more room than it may."""
    full = full_tensors()
    got = load(alone, device="cpu", comm="self", mmap=mmap)
    assert set(got) == set(full) and all(same(got[n], t) for n, t in full.items())
    assert all(same(t, full[n]) for n, t in load(alone, framework="torch", mmap=mmap).items())
    rows = load(alone, "rows", box=((3, 2), (4, 5)), device=torch.device("cpu"), mmap=mmap)["rows"]
    assert torch.equal(rows, full["rows"][3:7, 2:7])
    calls, read_all = [], shardweld.Checkpoint.read_all
    monkeypatch.setattr(shardweld.Checkpoint, "read_all", lambda self, requests, *a, **k: calls.append(list(requests)) or read_all(self, calls[-1], *a, **k))
    monkeypatch.setattr(shardweld.io, "STAGED", 400)
    far = load(alone, device="meta", comm="self", mmap=mmap)
    assert {n: (t.device.type, t.dtype, t.shape) for n, t in far.items()} == {n: ("meta", t.dtype, t.shape) for n, t in full.items()}
    assert mmap or len(calls) > 2 and all(len(c) == 1 or sum(r.memory.nbytes for r in c) <= 400 for c in calls)
    assert [r.name for c in calls for r in c] == [n for n in far if n in {r.name for c in calls for r in c}]
    for wrong in ({"device": "nowhere"}, {"device": "cpu", "into": {"rows": full["rows"]}}):
        with pytest.raises(shardweld.UsageError, match="nowhere|neither"):
            load(alone, **wrong)


if __name__ == "__main__":
    start(sys.argv[1], int(sys.argv[2]))
