"""Storage for torch.distributed.checkpoint: dcp.load and dcp.save over libshardweld.

    dcp.load(state, storage_reader=shardweld.dcp.StorageReader("step-1000"))
    dcp.save(state, storage_writer=shardweld.dcp.StorageWriter("step-1000"))

They stand where torch's HuggingFaceStorageReader, QuantizedHuggingFaceStorageReader and HuggingFaceStorageWriter stand, take their
arguments, and read and write the same files. Importing this module imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

import torch
from torch.distributed.checkpoint import storage as torch_storage
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.futures import Future

from . import _arrays as arrays
from . import _library as library
from ._comm import open_comm
from ._errors import UsageError, about
from .checkpoint import Checkpoint, Request
from .io import Item, save_items

__all__ = ["StorageReader", "StorageWriter"]

# Host memory for what cannot be read straight into its tensor, at a time; a larger tensor gets what it needs.
_STAGED = 256 << 20


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _is_packed(memory: arrays.Memory) -> bool:
    """Are its elements without gaps? (Those of less than a byte are.)"""
    return memory.strides is None or memory.strides == arrays.packed(memory.shape, arrays.BITS[memory.dtype] // 8)


# What is asked for, the tensor that it goes to, and the memory of the host where it lies for now.
_Step = tuple[ReadItem, torch.Tensor, Optional[torch.Tensor]]


def _commit(planner: LoadPlanner, done: list[_Step]) -> Exception | None:
    """Hand over what has been read. An error is given back: it is not the time to leave the other ranks."""
    try:
        for item, target, array in done:
            if array is not None:
                target.copy_(array)
            planner.commit_tensor(item, target)
    except Exception as e:
        return e
    return None


class StorageReader(torch_storage.StorageReader):
    """Reads a checkpoint, sharded or consolidated, for dcp.load(): whole tensors and DTensors of any mesh, whatever mesh saved it.

    Tensors on the CPU are read in place. Those of a device, and those of another dtype that the library does not cast to (float to
    integer), go by way of host memory, some 256 MiB at a time; this has not been tested with a device. Into an empty dictionary
    (torch's _EmptyStateDictLoadPlanner) come all tensors, or the keys that the planner names.

    Args:
        path: a directory or a safetensors file
        thread_count: threads of this process that read
        target_dtype: None: as HuggingFaceStorageReader, quantized tensors as they are saved. float32, bfloat16 or float16: as
            QuantizedHuggingFaceStorageReader, tensors that have scales are dequantized to it (X.weight with X.weight_scale_inv; X_blocks with
            X_scales, whose shape is then [E, R, G * 32]); the checkpoint may be sharded, and needs no index
        block_size: of FP8 scales; must be 128
        comm: "self": every rank reads the headers, as with torch's readers. A process group, or None for the default one: read once for
            all; then every rank of it must load

    Errors (UsageError, InputError with file and tensor, SystemFailure) end dcp.load on every rank with torch's CheckpointException.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        thread_count: int = 1,
        target_dtype: torch.dtype | None = None,
        block_size: int = 128,
        *,
        comm: Any = "self",
    ) -> None:
        super().__init__()
        if block_size != 128:
            raise UsageError(f"block_size is {block_size}, expected 128")
        self.path = os.fspath(path)
        self.thread_count = thread_count
        self.target_dtype = target_dtype
        self._target = arrays.parse_dtype(target_dtype)
        if self._target not in (None, "F32", "BF16", "F16"):
            raise UsageError(f"target_dtype is {target_dtype}, expected float32, bfloat16 or float16")
        self._comm = comm
        self._checkpoint: Checkpoint | None = None
        self._quantized: set[str] = set()

    @property
    def checkpoint_id(self) -> str:
        """The path."""
        return self.path

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Is it a path that exists?"""
        return os.path.exists(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """The next load begins, perhaps from another path."""
        if checkpoint_id:
            self.path = os.fspath(checkpoint_id)
        self._close()

    def _close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()
        self._checkpoint = None
        self._quantized = set()

    def read_metadata(self) -> Metadata:
        """Names, shapes and dtypes as the loaded tensors have them. Each tensor is told to torch's planner as one box: where the parts of it
        lie is the library's business."""
        self._close()
        self._checkpoint = Checkpoint(self.path, comm=self._comm)
        tensors = {name: self._metadata_of(self._checkpoint, name) for name in self._checkpoint}
        # With it the planner for an empty dictionary also understands keys.
        return Metadata(tensors, planner_data={name: (name,) for name in tensors}, storage_meta=StorageMeta(self.path))

    def _metadata_of(self, checkpoint: Checkpoint, name: str) -> TensorStorageMetadata:
        dtype, shape = checkpoint.saved(name)
        if self._target and checkpoint.is_quantized(name):
            dtype, shape = checkpoint.read_as(name, self._target)
            self._quantized.add(name)
        kind, stored = arrays.torch_stored(dtype, shape)
        size = torch.Size(stored)
        chunk = ChunkStorageMetadata(offsets=torch.Size([0] * len(size)), sizes=size)
        return TensorStorageMetadata(TensorProperties(dtype=kind), size, [chunk])

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Nothing to do."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Nothing to do."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read the boxes of this rank's plan into the planner's tensors, all that can be in one call."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise UsageError("read_data before read_metadata")
        direct: list[tuple[Request, _Step]] = []
        others: list[_Step] = []
        error: Exception | None = None
        try:
            for item in plan.items:
                target = planner.resolve_tensor(item).detach()
                request = self._in_place(checkpoint, item, target)
                if request is not None:
                    direct.append((request, (item, target, None)))
                else:
                    others.append((item, target, None))
        except Exception as e:
            error = e
        checkpoint.read_all((request for request, _ in direct), self.thread_count, error=error)
        error = _commit(planner, [step for _, step in direct])
        self._read_by_way(checkpoint, others, planner, error)
        self._close()
        return _done(None)

    def _request(self, checkpoint: Checkpoint, item: ReadItem, memory: arrays.Memory, dtype: str | None) -> Request:
        name, offsets = item.storage_index.fqn, tuple(item.storage_offsets)
        source = self._becomes(checkpoint, name)
        bits = arrays.BITS[source]
        if bits >= 8:
            return Request(name, offsets, memory, dtype)
        # torch counts the last dimension in bytes.
        whole = checkpoint.saved(name)[1]
        if not _is_packed(memory):
            raise UsageError(f"a {source} tensor has to be contiguous", tensor=name)
        if tuple(item.lengths) == arrays.stored_shape(source, whole):
            return Request(name, None, memory._replace(dtype=source, shape=whole, strides=None), None)
        if len(offsets) != len(whole) or offsets[-1] * 8 % bits or item.lengths[-1] * 8 % bits:
            raise UsageError(f"a part of a {source} tensor that does not begin and end on elements", tensor=name)
        shape = (*item.lengths[:-1], item.lengths[-1] * 8 // bits)
        memory = memory._replace(dtype=source, shape=shape, strides=None)
        return Request(name, (*offsets[:-1], offsets[-1] * 8 // bits), memory, None)

    def _becomes(self, checkpoint: Checkpoint, name: str) -> str:
        """The dtype that torch's reader would copy from."""
        return self._target if name in self._quantized and self._target else checkpoint.saved(name)[0]

    def _kind(self, checkpoint: Checkpoint, name: str) -> torch.dtype:
        """torch's for it."""
        return arrays.torch_stored(self._becomes(checkpoint, name), checkpoint.saved(name)[1])[0]

    def _in_place(self, checkpoint: Checkpoint, item: ReadItem, target: torch.Tensor) -> Request | None:
        """A request for the tensor itself; None where it has to be copied."""
        name = item.storage_index.fqn
        if tuple(target.shape) != tuple(item.lengths):
            raise UsageError(f"the planner's tensor has shape {list(target.shape)}, expected {list(item.lengths)}", tensor=name)
        source = self._becomes(checkpoint, name)
        if target.device.type != "cpu" or target.layout != torch.strided or target.is_conj() or target.is_neg():
            return None
        memory = arrays.torch_memory(target)
        same = target.dtype == self._kind(checkpoint, name)
        if not memory.distinct() or not (same or (source in arrays.FLOATING and memory.dtype in arrays.FLOATING)):
            return None
        if not same and name in self._quantized:
            return None  # rounded to target_dtype first, as torch's reader does
        return self._request(checkpoint, item, memory, None if same and name not in self._quantized else memory.dtype)

    def _read_by_way(self, checkpoint: Checkpoint, todo: list[_Step], planner: LoadPlanner, error: Exception | None) -> None:
        """The rest, through memory of the host. With several ranks together each takes as many steps as the one that needs most."""
        batches = self._batches(checkpoint, todo)
        with open_comm(self._comm) as ranks:
            steps = max(ranks.gather(len(batches)))
        for k in range(steps):
            batch = batches[k] if k < len(batches) else []
            staged: list[tuple[torch.Tensor, Request]] = []
            try:
                staged = [self._staged(checkpoint, item, target) for item, target, _ in batch]
            except Exception as e:
                error = error or e
            checkpoint.read_all((request for _, request in staged), self.thread_count, error=error)
            error = _commit(planner, [(item, target, array) for (item, target, _), (array, _) in zip(batch, staged)])
        if error is not None:
            raise error

    def _batches(self, checkpoint: Checkpoint, todo: list[_Step]) -> list[list[_Step]]:
        out: list[list[_Step]] = []
        room = 0
        for step in todo:
            item, target, _ = step
            size = target.numel() * arrays.BITS[self._becomes(checkpoint, item.storage_index.fqn)] // 8
            if size > room or not out:
                out.append([])
                room = _STAGED
            out[-1].append(step)
            room -= size
        return out

    def _staged(self, checkpoint: Checkpoint, item: ReadItem, target: torch.Tensor) -> tuple[torch.Tensor, Request]:
        """Memory of the host for one item, pinned where it goes to a GPU."""
        name = item.storage_index.fqn
        array = torch.empty(tuple(item.lengths), dtype=self._kind(checkpoint, name), pin_memory=target.device.type == "cuda")
        memory = arrays.torch_memory(array)
        return array, self._request(checkpoint, item, memory, memory.dtype if name in self._quantized else None)


class StorageWriter(torch_storage.StorageWriter):
    """Writes what dcp.save() hands over: as shard files, or straight as a consolidated checkpoint.

    The ranks write together, in write_data(): none may be missing there. What fails on one is raised on all, by torch as a
    CheckpointException. (A planner of one's own whose finish_plan() raises on one rank alone keeps the others waiting for the process
    group's timeout: raise in create_local_plan().)

    Tensors on the CPU are written from where they lie, contiguous or not; those of a device are copied to the host first, all of
    a rank's (not tested with a device). async_save() works: it hands over copies.

    Args:
        path: a directory; made if missing
        fqn_to_index_mapping: number of the file, from 1, for each FQN; None: one file. The coordinator's counts
        thread_count: taken for torch's sake; the library writes from one thread of each rank
        save_distributed: True, with enable_consolidation False: shard files shard-i-model-j-of-n.safetensors in path, those that
            HuggingFaceStorageWriter writes. Else, differently from torch's: a consolidated checkpoint
        enable_consolidation: a consolidated checkpoint in path (model-j-of-n.safetensors and index), written directly by all ranks; no
            shard files, so that there is no path/sharded
        thread_count_consolidation: as thread_count
        overwrite: replace a checkpoint that is there (torch's way); False: that is an error
        comm: the ranks that save: None: those of dcp.save's default group, one with no_dist=True; the process group that dcp.save was
            given
        options: for a consolidated checkpoint: members of sw_options, as in shardweld.save()

    Bytes items (a step number, an optimizer's settings) have no place in safetensors: prepare_local_plan() names them in a UsageError.
    torch's writer puts them in front of the header, where no reader understands the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fqn_to_index_mapping: Mapping[str, int] | None = None,
        thread_count: int = 1,
        save_distributed: bool = False,
        enable_consolidation: bool = False,
        thread_count_consolidation: int = 1,
        *,
        overwrite: bool = True,
        comm: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.fqn_to_index_mapping = fqn_to_index_mapping
        self.thread_count = thread_count
        self.save_distributed = save_distributed
        self.enable_consolidation = enable_consolidation
        self.thread_count_consolidation = thread_count_consolidation
        self.options = {"overwrite": overwrite, **options}
        library.lib()  # a library that is missing on one machine is better noticed here
        self._comm = comm

    @property
    def checkpoint_id(self) -> str:
        """The path."""
        return self.path

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Can it be a directory?"""
        return "://" not in os.fspath(checkpoint_id) and not os.path.isfile(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """The next save begins, perhaps to another path."""
        if checkpoint_id:
            self.path = os.fspath(checkpoint_id)

    def storage_meta(self) -> StorageMeta:
        return StorageMeta(checkpoint_id=self.path)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Raises UsageError for use_collectives=False: the ranks write one checkpoint together."""
        if not kwargs.get("use_collectives", True):
            raise UsageError("use_collectives=False: the ranks write one checkpoint together")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Raises UsageError where something is no tensor."""
        others = [item.index.fqn for item in plan.items if item.type == WriteItemType.BYTE_IO]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise UsageError(f"not a tensor{more}: save it with another storage writer", tensor=others[0])
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the coordinator: how many ranks save, and where each tensor goes."""
        told = {"ranks": len(plans), "fqn_to_index_mapping": self.fqn_to_index_mapping}
        return [replace(plan, storage_data=told) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[torch_storage.WriteResult]]:
        """Collective: all of it is written when this returns."""
        told = plan.storage_data
        items: list[Item] = []
        error: Exception | None = None
        with open_comm("self" if told["ranks"] == 1 and self._comm is None else self._comm) as ranks:
            if ranks.size != told["ranks"]:  # not to be agreed upon: the others of comm may not be here
                raise UsageError(f"{told['ranks']} ranks save, but comm has {ranks.size}: give it dcp.save's process_group")
            try:
                items = [self._item(item, planner) for item in plan.items]
            except Exception as e:
                error = e
            shards = self.save_distributed and not self.enable_consolidation
            save_items(ranks, self.path, items, not shards, told["fqn_to_index_mapping"], self.options, error)
        return _done([torch_storage.WriteResult(w.index, i.memory.nbytes, None) for w, i in zip(plan.items, items)])

    @staticmethod
    def _item(item: WriteItem, planner: SavePlanner) -> Item:
        name, data = item.index.fqn, item.tensor_data
        with about(name):
            tensor = planner.resolve_data(item)
            memory = arrays.memory_of(tensor)
            if tuple(tensor.shape) != tuple(data.chunk.sizes):
                raise UsageError(f"the planner's tensor has shape {list(tensor.shape)}, expected {list(data.chunk.sizes)}")
            if arrays.BITS[memory.dtype] < 8:  # torch counts the last dimension in bytes; such a tensor is whole
                return Item(name, memory.shape, (0,) * len(memory.shape), memory)
            return Item(name, tuple(data.size), tuple(data.chunk.offsets), memory)

    def finish(self, metadata: Metadata, results: list[list[torch_storage.WriteResult]]) -> None:
        """On the coordinator. Everything is there already."""
        metadata.storage_meta = self.storage_meta()
