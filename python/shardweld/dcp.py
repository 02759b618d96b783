"""Storage for torch.distributed.checkpoint: dcp.load and dcp.save over libshardweld.

    dcp.load(state, storage_reader=shardweld.dcp.StorageReader("step-1000"))
    dcp.load(state, storage_reader=shardweld.dcp.QuantizedStorageReader("step-1000"))
    dcp.save(state, storage_writer=shardweld.dcp.StorageWriter("step-1000"))

They stand where torch's HuggingFaceStorageReader, QuantizedHuggingFaceStorageReader and HuggingFaceStorageWriter stand, take their
arguments, and read and write the same files. Importing this module imports torch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch.distributed.checkpoint import storage as torch_storage
from torch.distributed.checkpoint._hf_utils import _HFStorageInfo
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader
from torch.futures import Future

from . import _arrays as arrays
from . import _library as library
from ._comm import open_comm, portable
from ._errors import InputError, UsageError, about, make_error
from .checkpoint import Checkpoint, Request
from .io import STAGED, Item, SaveInSteps, save_items, write_order

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import CommLike, SaveOptions

__all__ = ["QuantizedStorageReader", "StorageReader", "StorageWriter"]

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


class _StorageData(Mapping[MetadataIndex, _HFStorageInfo]):
    """Where the boxes lie that hold anything, as torch's reader tells it. There may be a million: they are listed when somebody asks."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = copy.copy(checkpoint)  # it stays open as long as this is there
        self._all: dict[MetadataIndex, _HFStorageInfo] | None = None

    def _listed(self) -> dict[MetadataIndex, _HFStorageInfo]:
        if self._all is None:
            cp = self._checkpoint
            lone = cp.info.kind == "file"
            self._all = {}
            for name in cp:
                dtype, _ = cp.saved(name)
                for box in cp.boxes(name):
                    kind, shape = arrays.torch_stored(dtype, box.shape)
                    path = cp.path if lone else os.path.join(cp.path, box.file)
                    self._all.setdefault(MetadataIndex(name, box.offsets), _HFStorageInfo(path, torch.Size(shape), kind))
        return self._all

    def __getitem__(self, index: MetadataIndex) -> _HFStorageInfo:
        return self._listed()[index]

    def __iter__(self) -> Iterator[MetadataIndex]:
        return iter(self._listed())

    def __len__(self) -> int:
        return len(self._listed())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._listed(),)


class StorageReader(HuggingFaceStorageReader):
    """Reads a checkpoint, sharded or consolidated, for dcp.load(): whole tensors and DTensors of any mesh, whatever mesh saved it. As
    HuggingFaceStorageReader it never dequantizes: of a tensor that has scales comes what is saved, also into one of another dtype.

    Tensors on the CPU are read in place. Those of a device, and those of another dtype that the library does not cast to (float to
    integer), go by way of host memory, some 256 MiB at a time; this has not been tested with a device. Into an empty dictionary
    (torch's _EmptyStateDictLoadPlanner) come all tensors, or the keys that the planner names.

    Args:
        path: a directory or a safetensors file
        thread_count: threads of this process that read
        comm: "self": every rank reads the headers, as with torch's readers. A process group, or None for the default one: read once for
            all; then every rank of it must load

    Errors (UsageError, InputError with file and tensor, SystemFailure) end dcp.load on every rank with torch's CheckpointException.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        thread_count: int = 1,
        *,
        comm: CommLike = "self",
    ) -> None:
        super().__init__(os.fspath(path))
        self._name(path)
        self.thread_count = thread_count
        self._target: str | None = None  # what those that have scales are dequantized to
        self._block_size: int | None = None
        self._comm = comm
        self._checkpoint: Checkpoint | None = None
        self._quantized: set[str] = set()

    def _name(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(library.encode_path(path))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Is it a path that exists?"""
        return os.path.exists(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """The next load begins, perhaps from another path."""
        super().reset()
        if checkpoint_id:
            self._name(checkpoint_id)
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
        self._checkpoint = Checkpoint(self.path, block_size=self._block_size, everything=True, comm=self._comm)
        tensors = {name: self._metadata_of(self._checkpoint, name) for name in self._checkpoint}
        return Metadata(
            dict(tensors),
            planner_data={name: (name,) for name in tensors},  # with it the planner for an empty dictionary also understands keys
            storage_data=_StorageData(self._checkpoint),
            storage_meta=StorageMeta(self.path, load_id=self.load_id),
        )

    def _metadata_of(self, checkpoint: Checkpoint, name: str) -> TensorStorageMetadata:
        dtype, shape = checkpoint.saved(name)
        if self._target and checkpoint.is_quantized(name):
            try:
                dtype, shape = checkpoint.read_as(name, self._target)
                self._quantized.add(name)
            except InputError:  # nobody may want it: who does is told
                pass
        kind, stored = arrays.torch_stored(dtype, shape)
        size = torch.Size(stored)
        chunk = ChunkStorageMetadata(offsets=torch.Size([0] * len(size)), sizes=size)
        return TensorStorageMetadata(TensorProperties(dtype=kind), size, [chunk])

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
        kind: torch.dtype = arrays.torch_stored(self._becomes(checkpoint, name), checkpoint.saved(name)[1])[0]
        return kind

    def _check_scales(self, checkpoint: Checkpoint, name: str, target: torch.Tensor) -> None:
        """Raise where a reader that dequantizes would leave numbers without their scales."""
        if self._target is None or name in self._quantized or not checkpoint.is_quantized(name):
            return
        if checkpoint.saved(name)[0] in arrays.FLOATING or target.dtype != self._kind(checkpoint, name):
            checkpoint.read_as(name, self._target)

    def _in_place(self, checkpoint: Checkpoint, item: ReadItem, target: torch.Tensor) -> Request | None:
        """A request for the tensor itself; None where it has to be copied."""
        name = item.storage_index.fqn
        if tuple(target.shape) != tuple(item.lengths):
            raise UsageError(f"the planner's tensor has shape {list(target.shape)}, expected {list(item.lengths)}", tensor=name)
        self._check_scales(checkpoint, name, target)
        source = self._becomes(checkpoint, name)
        if target.device.type != "cpu" or target.layout != torch.strided or target.is_conj() or target.is_neg():
            return None
        memory = arrays.torch_memory(target)
        same = target.dtype == self._kind(checkpoint, name)
        if not memory.distinct() or not (same or (source in arrays.FLOATING and memory.dtype in arrays.FLOATING)):
            return None
        if not same and checkpoint.is_quantized(name):
            return None  # what torch's readers copy: the bytes as they are, or rounded to target_dtype first
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
                room = STAGED
            out[-1].append(step)
            room -= size
        return out

    def _staged(self, checkpoint: Checkpoint, item: ReadItem, target: torch.Tensor) -> tuple[torch.Tensor, Request]:
        """Memory of the host for one item, pinned where it goes to a GPU."""
        name = item.storage_index.fqn
        array = torch.empty(tuple(item.lengths), dtype=self._kind(checkpoint, name), pin_memory=target.device.type == "cuda")
        memory = arrays.torch_memory(array)
        return array, self._request(checkpoint, item, memory, memory.dtype if name in self._quantized else None)


class QuantizedStorageReader(StorageReader, QuantizedHuggingFaceStorageReader):
    """The same, dequantizing as QuantizedHuggingFaceStorageReader does: tensors that have scales become target_dtype first, then what they
    go to. X.weight of any number with X.weight_scale_inv, one for each block, and MXFP4: X_blocks with X_scales, whose shape is then
    [E, R, G * 32]. The checkpoint may be sharded, and needs no index.

    Args:
        path, thread_count, comm: as StorageReader
        target_dtype: float32, bfloat16 or float16
        block_size: rows and columns under one scale. Scales that are not those of such blocks, or of a kind that cannot be made use of
            (X.weight_scale), are an InputError for who wants their tensor; torch takes what it finds, or leaves them
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        thread_count: int = 1,
        target_dtype: torch.dtype = torch.float32,
        block_size: int = 128,
        *,
        comm: CommLike = "self",
    ) -> None:
        super().__init__(path, thread_count, comm=comm)
        self.target_dtype = target_dtype
        self.block_size = block_size
        self._target = arrays.parse_dtype(target_dtype)
        self._block_size = block_size
        if self._target not in ("F32", "BF16", "F16"):
            raise UsageError(f"target_dtype is {target_dtype}, expected float32, bfloat16 or float16")
        if block_size < 1:
            raise UsageError(f"block_size is {block_size}, expected a number from 1")


@dataclass(frozen=True)
class _Failed:
    """Takes the place of what a rank has written: it travels to the coordinator as that does."""

    error: tuple[int, str, str, str, tuple[int, str]]


class StorageWriter(HuggingFaceStorageWriter):
    """Writes what dcp.save() hands over: as shard files, or straight as a consolidated checkpoint.

    The ranks do not talk to one another: what they have to know of each other travels in torch's plans and results. So it works
    whoever calls it: dcp.save(), async_save() in a thread or a process, with any process group, or none. The coordinator stages and
    publishes; in between each rank writes its own boxes to their places. What fails on one rank is raised on all, by torch as a
    CheckpointException, and nothing of the checkpoint appears. (Where a planner of one's own raises in finish_plan(), what was staged
    stays until the process ends or saves again.)

    Tensors on the CPU are written from where they lie, contiguous or not; those of a device are copied to the host first, all of
    a rank's (not tested with a device).

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
        comm: taken and not needed: the ranks are those that dcp.save() is called on
        options: for a consolidated checkpoint: members of sw_options, as in shardweld.save(); dequantize only where one rank saves

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
        comm: CommLike = None,
        **options: Unpack[SaveOptions],
    ) -> None:
        super().__init__(os.fspath(path))
        self._name(path)
        self.fqn_to_index_mapping = fqn_to_index_mapping  # type: ignore[assignment]
        self.thread_count = thread_count
        self.save_distributed = save_distributed
        self.enable_consolidation = enable_consolidation
        self.thread_count_consolidation = thread_count_consolidation
        self.options: SaveOptions = {"overwrite": True, **options}
        self.overwrite = bool(self.options["overwrite"])
        library.lib()  # a library that is missing on one machine is better noticed here
        self._save: SaveInSteps | None = None  # the coordinator's, from its plan to its end

    def __getstate__(self) -> dict[str, Any]:
        """For a process that saves: what is under way stays here."""
        return {**self.__dict__, "_save": None}

    def _name(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(library.encode_path(path))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Can it be a directory?"""
        return "://" not in os.fspath(checkpoint_id) and not os.path.isfile(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """The next save begins, perhaps to another path."""
        super().reset()
        if checkpoint_id:
            self._name(checkpoint_id)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Raises UsageError for use_collectives=False: the ranks write one checkpoint together."""
        if not kwargs.get("use_collectives", True):
            raise UsageError("use_collectives=False: the ranks write one checkpoint together")
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Raises UsageError where something is no tensor, or none that safetensors has."""
        others = [item.index.fqn for item in plan.items if item.type == WriteItemType.BYTE_IO]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise UsageError(f"not a tensor{more}: save it with another storage writer", tensor=others[0])
        for item in plan.items:
            self._planned(item)
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the coordinator: take the directory, decide who writes what where."""
        plans = _complete(plans)
        if self._save is not None and self._save.is_under_way():
            raise UsageError("this writer is in the midst of another save: wait for it, or take another writer")
        if len(plans) == 1 and self.options.get("dequantize") is not None:
            return plans  # write_data() does all of it
        held = [[self._planned(item) for item in plan.items] for plan in plans]
        self._save = SaveInSteps(self.path, held, self._is_consolidated, self.fqn_to_index_mapping, self.options)
        return [replace(plan, storage_data=order) for plan, order in zip(plans, self._save.orders)]

    @property
    def _is_consolidated(self) -> bool:
        return self.enable_consolidation or not self.save_distributed

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[torch_storage.WriteResult]]:
        """Write what is this rank's. An error goes to the coordinator in the result's place: so finish() hears of it."""
        try:
            items = [self._item(item, planner) for item in plan.items]
            if plan.storage_data is None:
                with open_comm("self") as alone:
                    save_items(alone, self.path, items, self._is_consolidated, self.fqn_to_index_mapping, self.options)
            else:
                write_order(plan.storage_data, items)
            return _done([torch_storage.WriteResult(w.index, i.memory.nbytes, None) for w, i in zip(plan.items, items)])
        except BaseException as e:
            failed = _Failed(portable(e, self.rank or 0))
            return _done([torch_storage.WriteResult(MetadataIndex(""), 0, failed)])

    @staticmethod
    def _planned(item: WriteItem) -> Item:
        """The box as its plan has it."""
        name, data = item.index.fqn, item.tensor_data
        assert data is not None  # prepare_local_plan() takes tensors alone
        with about(name):
            dtype = arrays.parse_dtype(data.properties.dtype)
            whole, offsets, shape = tuple(data.size), tuple(data.chunk.offsets), tuple(data.chunk.sizes)
            if arrays.BITS[dtype] < 8:  # torch counts the last dimension in bytes; such a tensor is whole
                whole = shape = (*shape[:-1], shape[-1] * 8 // arrays.BITS[dtype]) if shape else shape
                offsets = (0,) * len(shape)
            return Item(name, whole, offsets, arrays.Memory(None, 0, dtype, shape, None))

    @classmethod
    def _item(cls, item: WriteItem, planner: SavePlanner) -> Item:
        name, planned = item.index.fqn, cls._planned(item)
        with about(name):
            memory = arrays.memory_of(planner.resolve_data(item))
            for what, found, expected in (("shape", memory.shape, planned.memory.shape), ("dtype", memory.dtype, planned.memory.dtype)):
                if found != expected:
                    raise UsageError(f"the planner's tensor has {what} {found}, its plan {expected}")
            return planned._replace(memory=memory)

    def finish(self, metadata: Metadata, results: list[list[torch_storage.WriteResult]]) -> None:
        """On the coordinator: publish what all ranks have written."""
        save, self._save = self._save, None
        try:
            for written in results:
                for failed in (w.storage_data for w in written if isinstance(w.storage_data, _Failed)):
                    code, file, tensor, reason, who = failed.error
                    raise make_error(code, file, tensor, reason, who if len(results) > 1 else None)
            if save is not None:
                save.publish()
        finally:
            if save is not None:
                save.close()
        metadata.storage_meta = self.storage_meta()


def _complete(plans: list[SavePlan]) -> list[SavePlan]:
    """All plans in full: a planner that caches them leaves out those of the last save, and the ranks would take its orders too."""
    if all(plan.usable for plan in plans):
        return plans
    cached = [
        kept
        for kept in SavePlanner._cached_global_plan.values()
        if len(kept) == len(plans) and all(not p.usable or p is q for p, q in zip(plans, kept))
    ]
    if len(cached) != 1:
        raise UsageError("the planner has left out plans that it keeps, and there is more than one set of those: enable_plan_caching=False")
    return cached[0]
