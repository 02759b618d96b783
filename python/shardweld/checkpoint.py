"""An open checkpoint: what is in it, and any box of any tensor."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

from . import _arrays as arrays
from . import _library as library
from ._arrays import Memory
from ._comm import open_comm
from ._errors import UsageError, about
from ._show import count

if TYPE_CHECKING:
    import numpy
    import torch
    from typing_extensions import Unpack

    from .options import CommLike, DTypeLike, OpenOptions, PathLike

Array = TypeVar("Array")

# A call that moves less than this is over before somebody presses Ctrl-C.
_LONG = 64 << 20


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint is.

    Attributes:
        kind: "sharded", "plain" (a directory of whole tensors) or "file"
        index: name of the index that chose the files, None = none
        files: so many there are; `file_bytes` are their sizes together
        tensors, boxes: so many there are, boxes with replicas
        parameters: elements of all tensors; `nbytes` is what they take, without replicas
        shards: which shard numbers the files have: "1 to 8"; None: none
    """

    kind: str
    index: str | None
    files: int
    file_bytes: int
    tensors: int
    boxes: int
    parameters: int
    nbytes: int
    shards: str | None = None


@dataclass(frozen=True)
class TensorInfo:
    """What a tensor is as it is saved.

    Attributes:
        name: the FQN
        dtype: as safetensors spells it: "BF16"
        shape: of the whole tensor, in elements
        nbytes: of its data
        boxes: so many make it up; `replicas` repeat one of them
        sharding: in words: "whole", "rows over 8", "2x4 grid"
        scale: the tensor that has its scales: it is not what its numbers say; None: it has none
        nan, inf: elements that are NaN, or infinite, as the manifest beside its file tells; None: nothing tells
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    boxes: int
    replicas: int
    sharding: str
    scale: str | None = None
    nan: int | None = None
    inf: int | None = None


@dataclass(frozen=True)
class BoxInfo:
    """A box of a tensor as it is saved: `offsets` and `shape` in elements, the file (relative to the checkpoint) and where its data
    begins there, in bytes. `strides` are the elements from one to the next; None: they lie row by row."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    at: int
    nbytes: int
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True)
class FileInfo:
    """A file of a checkpoint: its name (relative to that), its size in bytes, how many tensors have a part in it; whether it cannot be used
    (findings tell why); what its `__metadata__` says beside its boxes (the first 64 members, at most 1 KiB of each)."""

    name: str
    nbytes: int
    tensors: int
    broken: bool
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: file and tensor that it is about ("" where none is), what was found and expected; the usual cause and its
    cure. str() is all but the last. Of values: so many elements differ, the most by `largest`, and by `relative` in proportion to the larger
    of the two."""

    file: str
    tensor: str
    reason: str
    hint: str
    differing: int = 0
    largest: float = 0.0
    relative: float = 0.0

    def __str__(self) -> str:
        tensor = f"tensor '{self.tensor}'" if self.tensor else ""
        return ": ".join(part for part in (self.file, tensor, self.reason) if part)


def read_findings(raw: Any, n: int) -> list[Finding]:
    """Of n sw_finding."""
    text = library.decode
    return [
        Finding(text(f.file), text(f.tensor), library.phrase(text(f.reason)), library.phrase(text(f.hint)), f.differing, f.largest, f.relative)
        for f in (raw[i] for i in range(n))
    ]


class Request(NamedTuple):
    """A box to be read: `offsets` None means the whole tensor; `dtype` None means as saved."""

    name: str
    offsets: Sequence[int] | None
    memory: Memory
    dtype: str | None


class _Handle:
    """An sw_checkpoint, freed when nobody uses it any more: a call on another thread may outlast close()."""

    def __init__(self) -> None:
        self._as_parameter_ = ctypes.c_void_p()
        weakref.finalize(self, library.lib().sw_checkpoint_free, self._as_parameter_)


class Checkpoint:
    """A checkpoint, sharded or consolidated, or one safetensors file. A context manager; iterating gives the names of its tensors.

    Opening reads all headers and no data. Nothing is ever written.

        >>> import numpy, shardweld
        >>> shardweld.save("step-1000", {"embed": numpy.ones((8, 2), "float16"), "step": 7}, consolidated=False)
        >>> with shardweld.Checkpoint("step-1000") as checkpoint:
        ...     for name in checkpoint:
        ...         print(name, checkpoint.tensor(name).dtype, checkpoint.tensor(name).shape)
        ...     rows = checkpoint.read("embed", (3, 0), (2, 2), dtype="float32")
        embed F16 (8, 2)
        step I64 ()
        >>> rows
        array([[1., 1.],
               [1., 1.]], dtype=float32)

    Args:
        path: a directory or a file
        expect_shards: shard numbers 1..N must all occur; None: any
        block_size: rows and columns under one scale of X.weight_scale_inv, or one number for both; None: as config.json says, else 128
        everything: of what a training job saved all tensors, under their names there; not those of the model alone, under its own
        boxes: a list of boxes (docs/boxes.md) that says which tensors there are, and where in the files of `path`
        boxes_anywhere: the files that it names may lie anywhere
        like: an *.index.json that must name the same tensors
        tolerant: what is wrong is no error, but in `findings`
        assets: a directory in which config.json is looked for too; no_config_check (with tolerant): nowhere
        comm: "self": opening and reading are this process's own business. Else the ranks that open it together and read at the same time,
            each what it wants, perhaps nothing: the headers are read once for all, and an error on one rank is raised on every
            rank. A torch process group or an mpi4py communicator; None: all ranks of the job

    Raises:
        InputError: it is missing or not a valid checkpoint (names file and tensor)
        SystemFailure, OutOfMemory: the system failed
    """

    def __init__(
        self,
        path: PathLike,
        *,
        comm: CommLike = "self",
        **options: Unpack[OpenOptions],
    ) -> None:
        raw = library.encode_path(path)
        self.path = os.fsdecode(raw)
        self._handle: _Handle | None = None
        self._comm = comm
        self._names: list[str] | None = None
        filled = library.make_options(options)
        handle, status, ref = _Handle(), library.Status(), ctypes.byref
        with open_comm(comm) as ranks:
            if ranks.size > 1:
                ranks.agree("open", None, {"path": raw, **options})
            call = library.lib().sw_checkpoint_open
            code = call(ref(ranks.struct), raw, ref(filled), ref(handle._as_parameter_), ref(status))
            ranks.check(code, status)
        self._handle = handle

    def close(self) -> None:
        """Free it; it cannot be used afterwards. Local."""
        self._handle = None

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> _Handle:
        """What is asked of it belongs to it: to be held as long as that is looked at."""
        if self._handle is None:
            raise ValueError(f"checkpoint {self.path} is closed")
        return self._handle

    # ---- what is in it ----------------------------------------------------------------------------------------------

    @property
    def info(self) -> CheckpointInfo:
        """Of all of it."""
        handle, raw = self._open(), library.CheckpointInfo()
        library.lib().sw_checkpoint_info_get(handle, ctypes.byref(raw))
        index = library.decode(raw.index) if raw.index else None
        kind, shards = library.KINDS[raw.kind], library.decode(raw.shards) or None
        return CheckpointInfo(kind, index, raw.nfiles, raw.file_bytes, raw.ntensors, raw.nboxes, raw.parameters, raw.bytes, shards)

    def files(self) -> list[FileInfo]:
        """All files, by name."""
        handle, raw, out = self._open(), library.FileInfo(), []
        for i in range(self.info.files):
            library.lib().sw_checkpoint_file(handle, i, ctypes.byref(raw))
            out.append(FileInfo(library.decode(raw.name), raw.size, raw.tensors, raw.broken))
        at, note = ctypes.c_uint64(), library.NoteInfo()
        while library.lib().sw_checkpoint_note(handle, ctypes.byref(at), ctypes.byref(note)):
            out[note.file].metadata[library.decode(note.key)] = library.decode(note.value)
        return out

    def findings(self) -> list[Finding]:
        """All that is wrong, by file, then tensor; always nothing unless it was opened with tolerant=True."""
        handle, n = self._open(), ctypes.c_uint64()
        raw = library.lib().sw_checkpoint_findings(handle, ctypes.byref(n))
        return read_findings(raw, n.value)

    def __repr__(self) -> str:
        if self._handle is None:
            return f"<shardweld.Checkpoint {self.path!r}: closed>"
        info = self.info
        return f"<shardweld.Checkpoint {self.path!r}: {info.kind}, {count(info.files, 'file')}, {count(info.tensors, 'tensor')}>"

    def keys(self) -> list[str]:
        """The names of all tensors, by their bytes."""
        if self._names is None:
            handle, raw = self._open(), library.TensorInfo()
            self._names = []
            for i in range(self.info.tensors):
                library.lib().sw_checkpoint_tensor(handle, i, ctypes.byref(raw))
                self._names.append(library.decode(raw.name))
        return list(self._names)

    def other_values(self) -> list[str]:
        """The names of what was saved beside tensors: step counters, states of random numbers."""
        handle = self._open()
        raw = library.CheckpointInfo()
        library.lib().sw_checkpoint_info_get(handle, ctypes.byref(raw))
        return [library.decode(library.lib().sw_checkpoint_value(handle, i)) for i in range(raw.nvalues)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return self.info.tensors

    def __contains__(self, name: object) -> bool:
        return self._find(self._open(), name) is not None

    @staticmethod
    def _find(handle: _Handle, name: Any) -> int | None:
        index = ctypes.c_uint64()
        try:
            raw = library.encode(name)
        except UsageError:  # what cannot be a name is none
            return None
        return index.value if library.lib().sw_checkpoint_find(handle, raw, ctypes.byref(index)) else None

    def _raw(self, handle: _Handle, name: str) -> tuple[int, Any]:
        index, raw = self._find(handle, name), library.TensorInfo()
        if index is None:
            raise KeyError(f"{self.path} has no tensor {name!r}")
        library.lib().sw_checkpoint_tensor(handle, index, ctypes.byref(raw))
        return index, raw

    def tensor(self, name: str) -> TensorInfo:
        """Of one tensor. Raises KeyError."""
        handle = self._open()
        index, raw = self._raw(handle, name)
        text, status = ctypes.create_string_buffer(library.SHARDING_TEXT), library.Status()
        code = library.lib().sw_checkpoint_sharding_text(handle, index, text, ctypes.byref(status))
        library.check(code, status)
        shape = tuple(raw.shape[: raw.ndim])
        words = library.decode(text.value)
        counts = (raw.nan, raw.inf) if raw.counted else (None, None)
        return TensorInfo(name, library.decode(raw.dtype), shape, raw.bytes, raw.nboxes, raw.nreplicas, words, self._scale(raw), *counts)

    @staticmethod
    def _scale(raw: Any) -> str | None:
        return library.decode(raw.scale) if raw.scale else None

    def scale(self, name: str) -> str | None:
        """The tensor that has the scales of this one, whether they can be made use of or not; None: it has none. Raises KeyError."""
        return self._scale(self._raw(self._open(), name)[1])

    def saved(self, name: str) -> tuple[str, tuple[int, ...]]:
        """(dtype, shape) of a tensor as it is saved; faster than tensor(). Raises KeyError."""
        handle = self._open()
        _, raw = self._raw(handle, name)
        return library.decode(raw.dtype), tuple(raw.shape[: raw.ndim])

    def boxes(self, name: str) -> list[BoxInfo]:
        """The boxes of one tensor, by offsets; replicas behind them. Raises KeyError."""
        handle = self._open()
        index, tensor = self._raw(handle, name)
        box, file, out = library.BoxInfo(), library.FileInfo(), []
        for i in range(tensor.nboxes + tensor.nreplicas):
            library.lib().sw_checkpoint_box(handle, index, i, ctypes.byref(box))
            library.lib().sw_checkpoint_file(handle, box.file, ctypes.byref(file))
            offsets, shape = tuple(box.offsets[: tensor.ndim]), tuple(box.shape[: tensor.ndim])
            strides = None if box.packed else tuple(box.strides[: tensor.ndim])
            out.append(BoxInfo(offsets, shape, library.decode(file.name), box.at, box.bytes, strides))
        return out

    def read_as(self, name: str, dtype: DTypeLike = None) -> tuple[str, tuple[int, ...]]:
        """(dtype, shape) that a read of the whole tensor gives when it is asked for as `dtype`; None: as saved.

        F64, F32, BF16 and F16 become one another. A tensor that has scales becomes F32, BF16 or F16 by them, also where it is saved as
        such: X.weight of any number with X.weight_scale_inv (one for each block), and X_blocks [E, R, G, 16] (MXFP4) with X_scales, of
        shape [E, R, G * 32] then.

        Raises UsageError where it cannot become that, InputError where it has scales of another kind or shape, KeyError where there is
        no such tensor.
        """
        handle, shape, status = self._open(), library.ReadShape(), library.Status()
        wanted = arrays.parse_dtype(dtype)
        self._raw(handle, name)
        code = library.lib().sw_checkpoint_read_shape(
            handle,
            library.encode(name),
            library.encode(wanted) if wanted else None,
            ctypes.byref(shape),
            ctypes.byref(status),
        )
        library.check(code, status)
        return library.decode(shape.dtype), tuple(shape.shape[: shape.ndim])

    def is_quantized(self, name: str) -> bool:
        """Has the checkpoint scales for this tensor? Raises KeyError."""
        return self.scale(name) is not None

    # ---- reading ----------------------------------------------------------------------------------------------------

    @overload
    def read(
        self, name: str, offsets: Sequence[int] | None = ..., shape: Sequence[int] | None = ..., *, out: Array, dtype: DTypeLike = ...,
        threads: int = ...
    ) -> Array: ...  # fmt: skip
    @overload
    def read(
        self, name: str, offsets: Sequence[int] | None = ..., shape: Sequence[int] | None = ..., *, framework: Literal["torch"],
        dtype: DTypeLike = ..., threads: int = ...
    ) -> torch.Tensor: ...  # fmt: skip
    @overload
    def read(
        self, name: str, offsets: Sequence[int] | None = ..., shape: Sequence[int] | None = ..., *, framework: Literal["numpy"] = ...,
        dtype: DTypeLike = ..., threads: int = ...
    ) -> numpy.ndarray[Any, Any]: ...  # fmt: skip
    def read(
        self,
        name: str,
        offsets: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
        *,
        out: Any = None,
        dtype: DTypeLike = None,
        framework: Literal["numpy", "torch"] = "numpy",
        threads: int = 1,
    ) -> Any:
        """One box of one tensor. load() reads many at once, which costs less.

        Args:
            name: the FQN
            offsets, shape: the box, in elements, outermost first; neither: the whole tensor
            out: where to: a numpy array or a torch tensor of the box's shape, with any strides; or bytes that can be written to
                (bytearray), for packed elements. None: a new array
            dtype: what it becomes: see read_as(). None: what `out` is, else as saved
            framework: of a new array: "numpy" or "torch"
            threads: that read

        Returns:
            out, or the new array.

        Raises:
            KeyError: there is no such tensor
            UsageError: the box lies outside, `out` does not fit, the tensor cannot become dtype
            InputError: the tensor is broken, or parts of the box are in no file; a file was changed since
            SystemFailure, OutOfMemory: the system failed
        """
        device = None
        error: Exception | None = None
        requests = []
        try:
            with about(name):
                device = out if arrays.is_elsewhere(out) else None
                if device is not None:  # by way of the host's memory
                    out, dtype, framework = None, self._dtype_for(name, device.dtype, dtype), "torch"
                out, request = self._request(name, offsets, shape, out, arrays.parse_dtype(dtype), framework)
            requests.append(request)
        except Exception as e:
            error = e
        self.read_all(requests, threads, error=error)
        if device is None:
            return out
        device.detach().copy_(out)
        return device

    def _dtype_for(self, name: str, found: Any, dtype: DTypeLike) -> Any:
        """What to ask for: `dtype`, else what is there already unless that is how it is saved."""
        kind = arrays.parse_dtype(found)
        return dtype if dtype is not None or self.is_as_saved(name, kind) else kind

    def is_as_saved(self, name: str, dtype: str | None) -> bool:
        """Does a tensor of this dtype take the bytes as they are? Numbers that have scales are not what they say."""
        return dtype == self.saved(name)[0] and not (dtype in arrays.FLOATING and self.is_quantized(name))

    def _request(
        self, name: str, offsets: Sequence[int] | None, shape: Sequence[int] | None, out: Any, dtype: str | None, framework: str
    ) -> tuple[Any, Request]:
        """Where it goes and what to ask the library for."""
        if (offsets is None) != (shape is None):
            raise UsageError("offsets and shape are given together or not at all")
        offsets = None if offsets is None else arrays.numbers(offsets, "offsets")
        memory = None
        if out is not None:
            memory = arrays.target_memory(out, self.saved(name)[0])
            if memory.dtype != arrays.BYTES:
                dtype = self._dtype_for(name, memory.dtype, dtype)
        becomes, whole = self.read_as(name, dtype)
        box = whole if shape is None else arrays.numbers(shape, "shape")
        if memory is None:
            out, memory = arrays.allocate(framework, becomes, box)
        elif memory.dtype == arrays.BYTES:  # the library checks that they suffice
            memory = memory._replace(dtype=becomes, shape=box)
        elif memory.shape != box or memory.dtype != becomes:
            found, expected = f"{memory.dtype} {list(memory.shape)}", f"{becomes} {list(box)}"
            raise UsageError(f"out is {found}, expected {expected}")
        return out, Request(name, offsets, memory, dtype)

    def read_all(
        self, requests: Iterable[Request], threads: int = 1, buffer_size: int = 0, error: Exception | None = None
    ) -> None:
        """Many boxes in one call: each file is opened once and read forwards, whatever the order of the requests.

        Collective if the checkpoint was opened so; then each rank brings requests of its own, perhaps none, or the error that it has
        run into while it made them. Raises as read().
        """
        requests = list(requests)
        reads = (library.Read * max(len(requests), 1))()
        handle, status, ref = None, library.Status(), ctypes.byref
        try:
            handle, threads = self._open(), max(1, threads)
            for read, request in zip(reads, requests):
                _fill(read, request)
        except Exception as e:
            error = error or e
        long = sum(r.memory.nbytes for r in requests) >= _LONG
        with open_comm(self._comm) as ranks:
            if ranks.size > 1 or error is not None:
                ranks.agree("read", error)
            with library.interruptible() if long else nullcontext() as cancel:
                options = library.ReadOptions(threads, buffer_size, cancel, False)
                call = library.lib().sw_checkpoint_read_all
                code = call(ref(ranks.struct), handle, reads, len(requests), ref(options), ref(status))
            ranks.check(code, status)


def _fill(read: Any, request: Request) -> None:
    """One sw_read; what it points to lives as long as the array of them, for ctypes keeps it."""
    name, offsets, memory, dtype = request
    read.name = library.encode(name)
    read.ndim = len(memory.shape)
    if offsets is not None:
        if len(offsets) != len(memory.shape):
            raise UsageError(f"a box of shape {list(memory.shape)} at {list(offsets)}: they differ in dimensions", tensor=name)
        read.offsets, read.shape = library.uint64_array(offsets), library.uint64_array(memory.shape)
    read.data = memory.address or None
    if memory.strides is not None:
        read.strides = library.int64_array(memory.strides)
    read.size = memory.room or memory.nbytes
    read.dtype = library.encode(dtype) if dtype else None
