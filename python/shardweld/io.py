"""load() and save(): tensors of a checkpoint as arrays, and arrays as a checkpoint.

Both know whole tensors, boxes of them, and the parts that the ranks of a device mesh hold; numpy arrays, torch tensors, DTensors.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict, TypeVar, Union, overload

from . import _arrays as arrays
from . import _library as library
from ._arrays import Box, Memory
from ._bar import end_bar, make_bar
from ._comm import Comm, open_comm
from ._errors import Code, UsageError, about
from ._mapped import Mapped
from ._placement import Part, choose_placements, coordinate_of, fit, parse_placement, part_of
from .checkpoint import Checkpoint, Request

if TYPE_CHECKING:
    import numpy
    import torch
    from torch.distributed.tensor import DTensor
    from typing_extensions import Unpack

    from .options import CommLike, DeviceLike, DTypeLike, OpenOptions, PathLike, Progress, SaveOptions

__all__ = ["Box", "load", "save"]

Array = TypeVar("Array")


class _DeviceMesh(Protocol):
    """Of torch."""

    def get_coordinate(self) -> list[int] | None: ...


class _HasShape(Protocol):
    """An array, a tensor, a DTensor."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...


#: offsets and shape
BoxLike = tuple[Sequence[int], Sequence[int]]
#: a torch.distributed.tensor.placement_types.Placement is an object of torch
Placements = Union[Sequence[Any], Mapping[str, Sequence[Any]], str, int, None]


class _LoadOptions(TypedDict, total=False):
    """Of all forms of load()."""

    threads: int
    block_size: int | tuple[int, int] | str | None
    everything: bool
    boxes: PathLike | None
    comm: CommLike


class _NewOptions(_LoadOptions, total=False):
    """Of those that make new arrays."""

    box: BoxLike | Mapping[str, BoxLike] | None
    mesh: int | Sequence[int] | None
    placements: Placements
    coordinate: int | Sequence[int] | None
    dtype: DTypeLike
    mmap: bool

# ---- load -------------------------------------------------------------------------------------------------------------


@overload
def load(
    path: PathLike, names: str | Iterable[str] | None = ..., *, into: Mapping[str, Array], **options: Unpack[_LoadOptions]
) -> dict[str, Array]: ...
@overload
def load(
    path: PathLike, names: str | Iterable[str] | None = ..., *, mesh: _DeviceMesh, placements: Placements = ..., dtype: DTypeLike = ...,
    framework: Literal["torch"] | None = ..., **options: Unpack[_LoadOptions]
) -> dict[str, DTensor]: ...  # fmt: skip
@overload
def load(
    path: PathLike, names: str | Iterable[str] | None = ..., *, framework: Literal["torch"], device: DeviceLike | None = ...,
    **options: Unpack[_NewOptions]
) -> dict[str, torch.Tensor]: ...  # fmt: skip
@overload
def load(
    path: PathLike, names: str | Iterable[str] | None = ..., *, device: DeviceLike, **options: Unpack[_NewOptions]
) -> dict[str, torch.Tensor]: ...
@overload
def load(
    path: PathLike, names: str | Iterable[str] | None = ..., *, framework: Literal["numpy"] | None = ..., **options: Unpack[_NewOptions]
) -> dict[str, numpy.ndarray[Any, Any]]: ...
def load(
    path: PathLike,
    names: str | Iterable[str] | None = None,
    *,
    box: BoxLike | Mapping[str, BoxLike] | None = None,
    mesh: _DeviceMesh | int | Sequence[int] | None = None,
    placements: Placements = None,
    coordinate: int | Sequence[int] | None = None,
    into: Mapping[str, Any] | None = None,
    dtype: DTypeLike = None,
    framework: Literal["numpy", "torch"] | None = None,
    device: DeviceLike | None = None,
    mmap: bool = False,
    threads: int = 1,
    block_size: int | tuple[int, int] | str | None = None,
    everything: bool = False,
    boxes: PathLike | None = None,
    comm: CommLike = "self",
) -> dict[str, Any]:
    """Tensors of a checkpoint, sharded or consolidated, as they are or cut anew.

        >>> import numpy, shardweld
        >>> shardweld.save("step-1000", {"w": numpy.arange(12, dtype="float32").reshape(4, 3), "step": 7}, consolidated=False)
        >>> sorted((name, array.shape) for name, array in shardweld.load("step-1000").items())
        [('step', ()), ('w', (4, 3))]
        >>> shardweld.load("step-1000", "w", box=((1, 0), (2, 3)))["w"]
        array([[3., 4., 5.],
               [6., 7., 8.]], dtype=float32)
        >>> shardweld.load("step-1000", mesh=(2, 4), coordinate=(1, 3), placements=["replicate", "shard0"])["w"]
        array([[ 9., 10., 11.]], dtype=float32)

    With torch also load("step-1000", device="cuda:0"), load("step-1000", mesh=device_mesh, placements=[Shard(0)]) for DTensors, and
    load("step-1000", into=model.state_dict()) into what is there.

    Args:
        path: a directory or a safetensors file
        names: those that are wanted; None: all, or those of `into`
        box: (offsets, shape) in elements, outermost first, of each tensor; or {name: (offsets, shape)}, and the others whole
        mesh: this rank's part of each tensor: a torch DeviceMesh, or the sizes of a mesh, filled in rank order. Excludes `box`
        placements: one for each mesh dimension: a tensor dimension or "shardD" where it cuts that one, None or "replicate", or
            torch's Shard, Replicate; or {glob: placements}, the first that matches. A tensor that lacks the dimension is replicated.
            None, or no match: the first mesh dimension cuts dimension 0. Pieces are as DTensor has them (ceil(size / n), the last
            ones short or empty), nested where several cut one dimension
        coordinate: where this rank stands in a mesh of sizes; None: by its number in `comm`, which then has as many ranks as the mesh
        into: arrays, tensors, DTensors or Box objects by name, which are filled and returned. Theirs is the dtype, and they say which part
            it is; excludes box, mesh and dtype. A tensor that is not on the CPU is filled by way of the host (not tested with a device)
        dtype: what floating-point tensors are cast to, and those that have scales are dequantized to (then the scales are left
            out unless they are named; scales that cannot be made use of are an InputError); all others stay as saved. See
            Checkpoint.read_as()
        block_size, everything, boxes: see Checkpoint
        framework: "numpy" (the default) or "torch" (with a DeviceMesh, or a device, always)
        device: where torch's tensors are, by way of some 256 MiB of the host's memory at a time where `comm` is "self" (not tested with
            a device). None: the host. Not with `into` or a DeviceMesh, which say it themselves
        mmap: tensors that lie in one file as they are asked for are not read but mapped: the array is the file, without its memory, and what
            is looked at is read then (writing to it does not change the file). All others are read. The process ends with SIGBUS
            where such a file is cut short, or its disk fails, while it is looked at. Not with `into` or a DeviceMesh
        threads: that read, of this process
        comm: "self": this process reads what it wants, whatever others do. Else all ranks of it call with names and parts of their own, and
            an error of one is raised on all: see Checkpoint

    Returns:
        {name: array}. What numpy has no dtype for is an array of ml_dtypes if that is installed; else BF16 is uint16, FP8 is uint8: the
        bytes as they are. F4 and F6 are uint8 with the last dimension in bytes (F4 in torch: float4_e2m1fn_x2).

    Raises:
        InputError: not a valid checkpoint, or parts of a tensor are in no file (names file and tensor)
        UsageError: a box that lies outside, a dtype that a tensor cannot become, arguments that exclude one another
        KeyError: a name that is not there
        SystemFailure, OutOfMemory: the system failed
    """
    how: OpenOptions = {"block_size": block_size, "everything": everything, "boxes": boxes}
    with open_comm(comm) as ranks, Checkpoint(path, comm=ranks, **how) as checkpoint:
        error: Exception | None = None
        jobs: list[_Job] = []
        try:
            make = _Maker(checkpoint, framework, device, mmap, into is not None or hasattr(mesh, "get_coordinate"))
            jobs = _plan_load(make, names, box, mesh, placements, coordinate, into, dtype, ranks)
        except Exception as e:
            error = e
        out: dict[str, Any] = {}
        for batch in _batches(jobs, STAGED if device is not None and ranks.size == 1 else None):
            checkpoint.read_all((r for job in batch for r in job.requests), threads, error=error)
            for job in batch:
                out[job.name] = job.finish()
        return out


class _Job(NamedTuple):
    """What fills one entry of the result, and what makes it of the memory that was filled."""

    name: str
    requests: list[Request]
    finish: Callable[[], Any]


#: host memory, at a time, for what goes on from there; a larger tensor gets what it needs
STAGED = 256 << 20


def _batches(jobs: list[_Job], room: int | None) -> Iterator[list[_Job]]:
    """Those that are read by one call: all, or as many as there is room for, at least one. They are forgotten here. One batch, at least."""
    if room is None:
        yield jobs
        return
    batch: list[_Job] = []
    held = 0
    jobs.reverse()
    while jobs:
        size = sum(r.memory.nbytes for r in jobs[-1].requests)
        if batch and held + size > room:
            yield batch
            batch, held = [], 0
        batch.append(jobs.pop())
        held += size
    yield batch


class _Maker:
    """Makes the arrays that are new: of numpy or torch, here or on a device, mapped where that can be."""

    def __init__(self, checkpoint: Checkpoint, framework: str | None, device: DeviceLike | None, mmap: bool, given: bool) -> None:
        """given: there are arrays already, or a DeviceMesh says where they are."""
        if given and (device is not None or mmap):
            raise UsageError("device and mmap go neither with into nor with a DeviceMesh")
        if device is not None and framework == "numpy":
            raise UsageError("arrays of numpy are on no device: framework='torch'")
        self.checkpoint = checkpoint
        self._framework = framework or ("numpy" if device is None else "torch")
        self._device = None if device is None else arrays.parse_device(device)
        self._mapped = Mapped(checkpoint) if mmap else None

    def box(self, name: str, dtype: str | None, becomes: str, offsets: Sequence[int] | None, shape: Sequence[int]) -> _Job:
        """One box of a tensor, whole where offsets is None; `becomes` is its dtype then."""
        array = self._mapped.array(self._framework, name, offsets, shape) if self._mapped and dtype is None else None
        if array is not None:
            return _Job(name, [], self._finish(array))
        array, memory = arrays.allocate(self._framework, becomes, shape)
        return _Job(name, [Request(name, offsets, memory, dtype)], self._finish(array))

    def part(self, name: str, dtype: str | None, becomes: str, part: Part) -> _Job:
        """The part that a rank of a mesh holds."""
        if len(part.pieces) == 1:
            return self.box(name, dtype, becomes, part.pieces[0].offsets, part.pieces[0].shape)
        array, memory = arrays.allocate(self._framework, becomes, part.shape)
        return _Job(name, _requests(name, part, memory, dtype), self._finish(array))

    def _finish(self, array: Any) -> Callable[[], Any]:
        device = self._device
        return (lambda: array) if device is None else (lambda: array.to(device))


def _plan_load(
    make: _Maker,
    names: Any,
    box: Any,
    mesh: Any,
    placements: Any,
    coordinate: Any,
    into: Any,
    dtype: Any,
    ranks: Comm,
) -> list[_Job]:
    checkpoint = make.checkpoint
    if into is not None:
        if not (box is None and mesh is None and dtype is None):
            raise UsageError("into says itself which part of a tensor is wanted, and as what dtype")
        chosen = into if names is None else _listed(names)
        return [_fill_what_is_there(checkpoint, name, into[name]) for name in chosen]
    dtype = arrays.parse_dtype(dtype)
    if mesh is None:
        boxes = _boxes(box)
        return [_read_box(make, n, t, boxes(n)) for n, t in _choose(checkpoint, names, dtype)]
    if box is not None:
        raise UsageError("box and mesh exclude one another")
    view = _mesh_view(mesh, coordinate, ranks)
    read = _read_dtensor if view.device_mesh is not None else _read_part
    return [read(make, n, t, view, placements) for n, t in _choose(checkpoint, names, dtype)]


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _choose(checkpoint: Checkpoint, names: Any, dtype: str | None) -> list[tuple[str, str | None]]:
    """The tensors that are wanted and what each is cast to; None = as saved."""
    chosen = {name: _cast(checkpoint, name, dtype) for name in (checkpoint.keys() if names is None else _listed(names))}
    if names is None:
        used = {checkpoint.scale(name) for name, target in chosen.items() if target}
        return [(name, target) for name, target in chosen.items() if name not in used]
    return list(chosen.items())


def _cast(checkpoint: Checkpoint, name: str, dtype: str | None) -> str | None:
    if dtype is None or checkpoint.is_as_saved(name, dtype):
        return None
    return dtype if checkpoint.saved(name)[0] in arrays.FLOATING or checkpoint.is_quantized(name) else None


def _boxes(box: Any) -> Callable[[str], Any]:
    if box is None or isinstance(box, Mapping):
        return lambda name: box.get(name) if box else None
    return lambda name: box


def _read_box(make: _Maker, name: str, dtype: str | None, box: Any) -> _Job:
    becomes, whole = make.checkpoint.read_as(name, dtype)
    if box is None:
        return make.box(name, dtype, becomes, None, whole)
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        raise UsageError(f"a box is {box!r}, expected (offsets, shape)", tensor=name)
    return make.box(name, dtype, becomes, arrays.numbers(box[0], "offsets"), arrays.numbers(box[1], "shape"))


class _MeshView(NamedTuple):
    """A mesh as this rank sees it. `coordinate` is None where it is no part of it, `device_mesh` where there is no torch about it."""

    sizes: tuple[int, ...]
    coordinate: tuple[int, ...] | None
    device_mesh: Any


def _mesh_view(mesh: Any, coordinate: Any, ranks: Comm) -> _MeshView:
    if hasattr(mesh, "get_coordinate"):
        at = mesh.get_coordinate()
        return _MeshView(tuple(mesh.shape), None if at is None else tuple(at), mesh)
    sizes = arrays.numbers((mesh,) if isinstance(mesh, int) else mesh, "mesh")
    if not sizes or min(sizes) < 1:
        raise UsageError(f"mesh {list(sizes)}: expected sizes from 1")
    if isinstance(coordinate, int):
        coordinate = (coordinate,)
    if coordinate is None:
        if ranks.size != prod(sizes):
            raise UsageError(f"coordinate is missing, and the {ranks.size} ranks of comm are not the mesh {list(sizes)}")
        coordinate = coordinate_of(ranks.rank, sizes)
    if len(coordinate) != len(sizes) or not all(0 <= i < n for i, n in zip(coordinate, sizes)):
        raise UsageError(f"coordinate {list(coordinate)} is not in the mesh {list(sizes)}")
    return _MeshView(sizes, tuple(coordinate), None)


def _requests(name: str, part: Part, memory: Memory, dtype: str | None) -> list[Request]:
    return [Request(name, piece.offsets, memory.part(piece.at, piece.shape), dtype) for piece in part.pieces]


def _read_part(make: _Maker, name: str, dtype: str | None, view: _MeshView, placements: Any) -> _Job:
    becomes, shape = make.checkpoint.read_as(name, dtype)
    part = part_of(shape, view.sizes, view.coordinate or (), fit(choose_placements(placements, name, len(view.sizes)), len(shape)))
    return make.part(name, dtype, becomes, part)


def _read_dtensor(make: _Maker, name: str, dtype: str | None, view: _MeshView, placements: Any) -> _Job:
    torch = arrays.import_torch()
    from torch.distributed.tensor import DTensor, Replicate, Shard

    becomes, shape = make.checkpoint.read_as(name, dtype)
    cuts = fit(choose_placements(placements, name, len(view.sizes)), len(shape))
    if arrays.BITS[becomes] < 8:
        raise UsageError(f"a DTensor cannot hold {becomes}", tensor=name)
    if any(cut and cut[1] != 1 for cut in cuts):
        raise UsageError("load makes no DTensors with strided placements: give the DTensor itself as into", tensor=name)
    requests: list[Request] = []
    local = torch.empty(0, dtype=arrays.torch_dtype(becomes))
    if view.coordinate is not None:
        part = part_of(shape, view.sizes, view.coordinate, cuts)
        local, memory = arrays.allocate("torch", becomes, part.shape)
        requests = _requests(name, part, memory, dtype)
    placed = [Shard(cut[0]) if cut else Replicate() for cut in cuts]
    stride = arrays.packed(shape, 1)
    size = torch.Size(shape)
    mesh = view.device_mesh
    from_local = DTensor.from_local
    return _Job(name, requests, lambda: from_local(local, mesh, placed, run_check=False, shape=size, stride=stride))


def _fill_what_is_there(checkpoint: Checkpoint, name: str, value: Any) -> _Job:
    """An entry of `into`."""
    with about(name):
        shape, part, data, dtype = _describe(value)
        saved, _ = checkpoint.saved(name)
        device = data if arrays.is_elsewhere(data) else None
        if device is not None:
            data = arrays.import_torch().empty(data.shape, dtype=data.dtype)
        if not (arrays.is_torch(data) or arrays.is_numpy(data)):
            raise UsageError(f"a value of type {type(data).__name__}: expected an array or a tensor")
        memory = arrays.reinterpret(arrays.target_memory(data, saved), arrays.parse_dtype(dtype))
        target = None if checkpoint.is_as_saved(name, memory.dtype) else memory.dtype
        saved_shape = checkpoint.read_as(name, target)[1]
        _check_part(part, memory)
        if shape != saved_shape:
            raise UsageError(f"the tensor that is there has shape {list(shape)}, the saved one {list(saved_shape)}")
        requests = _requests(name, part, memory, target)

    def finish() -> Any:
        if device is not None:
            device.detach().copy_(data)
        return value

    return _Job(name, requests, finish)


# ---- what an array is a part of ---------------------------------------------------------------------------------------


def _describe(value: Any) -> tuple[tuple[int, ...], Part, Any, str | None]:
    """(global shape, part of it, the array that holds the part, dtype to take its bytes as)."""
    if arrays.is_dtensor(value):
        return _describe_dtensor(value)
    if isinstance(value, Box):
        return _describe_box(value)
    if hasattr(value, "local_shards"):
        raise UsageError("a ShardedTensor: give its local shards as Box objects, or use shardweld.dcp")
    shape = arrays.shape_of(value)
    return shape, part_of(shape, (), (), ()), value, None


def _describe_box(box: Box) -> tuple[tuple[int, ...], Part, Any, str | None]:
    held = arrays.shape_of(box.data, box.dtype)
    offsets = arrays.numbers(box.offsets, "offsets") if box.offsets is not None else (0,) * len(held)
    shape = arrays.numbers(box.global_shape, "global_shape") if box.global_shape is not None else held
    if not len(offsets) == len(shape) == len(held):
        raise UsageError(f"a box of {len(held)} dimensions at {list(offsets)} of {list(shape)}")
    piece = part_of(held, (), (), ()).pieces[0]._replace(offsets=offsets)
    return shape, Part(held, [piece]), box.data, box.dtype


def _describe_dtensor(tensor: Any) -> tuple[tuple[int, ...], Part, Any, None]:
    """What this rank holds by the DTensor's mesh and placements; nothing where it is not in the mesh."""
    mesh, shape = tensor.device_mesh, tuple(tensor.shape)
    if arrays.parse_dtype(tensor.dtype) == "F4":
        raise UsageError("a DTensor of F4: elements of less than a byte can only be taken whole")
    local = tensor.detach().to_local()
    local = local.wait() if hasattr(local, "wait") else local
    at = mesh.get_coordinate()
    cuts = fit([parse_placement(p) for p in tensor.placements], len(shape))
    return shape, Part(tuple(local.shape), []) if at is None else part_of(shape, tuple(mesh.shape), at, cuts), local, None


def _check_part(part: Part, memory: Memory) -> None:
    if part.pieces and memory.shape != part.shape:
        raise UsageError(f"the part in memory has shape {list(memory.shape)}, expected {list(part.shape)}")


# ---- save -------------------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """A box that this rank holds: sw_item."""

    name: str
    global_shape: Sequence[int]
    offsets: Sequence[int]
    memory: Memory


#: what can be saved under a name
Value = Union[_HasShape, bool, int, float, Box, Sequence[Box]]


def save(
    path: PathLike,
    state: Mapping[str, Value],
    *,
    consolidated: bool = True,
    fqn_to_index_mapping: Mapping[str, int] | None = None,
    comm: CommLike = None,
    progress: Progress = None,
    **options: Unpack[SaveOptions],
) -> None:
    """Save what the ranks hold, straight from memory. Collective: every rank of `comm` calls it, with what it holds, perhaps nothing.

        >>> import numpy, shardweld
        >>> whole = numpy.arange(6, dtype="float32").reshape(3, 2)
        >>> shardweld.save("out", {"w": whole}, max_shard_size="5GB")
        >>> parts = [shardweld.Box(whole[:1], (0, 0), (3, 2)), shardweld.Box(whole[1:], (1, 0), (3, 2))]
        >>> shardweld.save("parts", {"w": parts})
        >>> bool(shardweld.diff("out", "parts"))
        True

    On several ranks each saves what it holds: save("out", {"w": Box(rows, (first, 0), (1000, 64))}) some rows, and
    save("out", model.state_dict()) what DTensors tell (FSDP2, tensor parallel).

    Args:
        path: a directory; made if missing
        state: {FQN: value}: a numpy array, a torch tensor or a number (whole: of ranks that hold it too, the lowest one's copy is
            used), a DTensor (Shard, Replicate, strided; uneven and empty parts too), a Box, or a list of Box objects. Arrays need not be
            contiguous and are not copied, but tensors of a device are, all of a rank's to the host at once (not tested with a
            device). Tied tensors are saved under each of their names. numpy arrays of any dtype that safetensors has; ml_dtypes too
        consolidated: True: as Hugging Face has it: model-j-of-n.safetensors and an index, written directly by all ranks, no shard
            files in between. False: shard-i-model-j-of-n.safetensors, as torch's HuggingFaceStorageWriter(save_distributed=True)
        fqn_to_index_mapping: number of the file, from 1, for each FQN; None: one file
        comm: None: all ranks of the job (torch's process group, else MPI's ranks, else this process); "self"; a torch process
            group or an mpi4py communicator
        progress: as in consolidate()
        options: overwrite (replace a checkpoint that is there, which is else a UsageError), manifest (hashes for check()), refuse_nan,
            no_sync, buffer_size; for the consolidated
            form also max_shard_size ("5GB"), single_file, like, cast_dtype, name_rules, include, exclude, assets: see
            shardweld.options.SaveOptions

    The checkpoint appears when all of it is written; on an error nothing of it does, and what was there stays.

    Raises:
        UsageError: a value that cannot be saved (Partial, a type or dtype that safetensors lacks), a box outside its tensor, an output that
            is there already; names the tensor
        InputError: the boxes of all ranks leave a gap or overlap in part; another dtype or shape on another rank; an FQN that
            the mapping lacks
        SystemFailure, OutOfMemory, CommError: the system failed
    """
    with open_comm(comm) as ranks:
        error: Exception | None = None
        items: list[Item] = []
        try:
            items = [item for name, value in state.items() for item in _items(name, value)]
        except Exception as e:
            error = e
        save_items(ranks, path, items, consolidated, fqn_to_index_mapping, options, error, progress)


def _items(name: str, value: Any) -> list[Item]:
    if not isinstance(name, str):
        raise UsageError(f"the name {name!r} is no text")
    if isinstance(value, (list, tuple)) and all(isinstance(v, Box) for v in value):
        return [item for box in value for item in _items(name, box)]
    with about(name):
        shape, part, data, dtype = _describe(value)
        memory = arrays.memory_of(data, dtype)
        _check_part(part, memory)
        return [Item(name, shape, p.offsets, memory.part(p.at, p.shape)) for p in part.pieces]


def save_items(
    ranks: Comm,
    path: PathLike,
    items: Sequence[Item],
    consolidated: bool,
    fqn_to_index_mapping: Mapping[str, int] | None,
    options: SaveOptions,
    error: Exception | None = None,
    progress: Progress = None,
) -> None:
    """Collective. Write the boxes of all ranks; `error` is what this rank has run into before."""
    raw, filled, array = b"", library.make_options({}), _array([])
    bar: Callable[[int, int], object] | None = None
    try:
        array, bar = _array(items), make_bar(progress, "save")
        raw, filled = library.encode_path(path), _options(fqn_to_index_mapping, options, bar)
    except Exception as e:
        error = error or e
    if ranks.size > 1 or error is not None:
        ranks.agree("save", error, {"path": raw, "consolidated": consolidated})
    function = library.lib().sw_save_consolidated if consolidated else library.lib().sw_save_shards
    status, ref = library.Status(), ctypes.byref
    if ranks.kind == "mpi":
        library.lib().sw_transport_defaults(raw)
    code = int(Code.CANCEL)
    try:
        with library.interruptible() as filled.cancel:
            code = function(ref(ranks.struct), raw, array, len(items), ref(filled), None, ref(status))
    finally:
        end_bar(bar, code == Code.OK)
    ranks.check(code, status)


def _array(items: Sequence[Item]) -> Any:
    """As C has them."""
    array = (library.Item * max(len(items), 1))()
    for raw, item in zip(array, items):
        _fill(raw, item)
    return array


def _options(fqn_to_index_mapping: Mapping[str, int] | None, options: SaveOptions, bar: Callable[[int, int], object] | None = None) -> Any:
    values: dict[str, Any] = dict(options)
    if fqn_to_index_mapping is not None:
        values["fqn_map_text"] = library.index_map(fqn_to_index_mapping)
    return library.make_options(values, bar)


def _fill(raw: Any, item: Item) -> None:
    memory, ndim = item.memory, len(item.global_shape)
    if not len(item.offsets) == len(memory.shape) == ndim:
        raise UsageError(f"a box of shape {list(memory.shape)} at {list(item.offsets)} of {list(item.global_shape)}", tensor=item.name)
    raw.name = library.encode(item.name)
    raw.dtype = library.encode(memory.dtype)
    raw.ndim = ndim
    raw.global_shape = library.uint64_array(item.global_shape)
    raw.offsets = library.uint64_array(item.offsets)
    raw.shape = library.uint64_array(memory.shape)
    raw.data = memory.address or None
    if memory.strides is not None:
        raw.strides = library.int64_array(memory.strides)


# ---- save in steps ----------------------------------------------------------------------------------------------------


class SaveInSteps:
    """The coordinator's part of a save by ranks that do not talk to one another meanwhile: sw_save. Nothing here is collective.

    Attributes:
        orders: for each rank, what `write_order()` does there
    """

    def __init__(
        self,
        path: PathLike,
        held: Sequence[Sequence[Item]],
        consolidated: bool,
        fqn_to_index_mapping: Mapping[str, int] | None,
        options: SaveOptions,
    ) -> None:
        """Take the directory, plan, stage what is no rank's own.

        Args: as `save_items()`; held: the boxes of every rank, whose memory is not looked at
        """
        _give_up_abandoned()
        raw, self._filled = library.encode_path(path), _options(fqn_to_index_mapping, options)
        arrays_, n = [_array(items) for items in held], len(held)
        first = (ctypes.POINTER(library.Item) * n)(*(ctypes.cast(a, ctypes.POINTER(library.Item)) for a in arrays_))
        counts = (ctypes.c_size_t * n)(*map(len, held))
        handle, status, ref = ctypes.c_void_p(), library.Status(), ctypes.byref
        with library.interruptible() as self._filled.cancel:
            code = library.lib().sw_save_begin(raw, not consolidated, first, counts, n, ref(self._filled), ref(handle), ref(status))
        library.check(code, status)
        self._handle, self._lock, self._thread = handle, threading.Lock(), threading.current_thread()
        _under_way.add(self)
        # One that nobody publishes or closes, at the latest when Python ends.
        self._finalizer = weakref.finalize(self, _give_up, handle, self._filled, os.getpid())
        self.orders = [self._order(r) for r in range(n)]

    def _order(self, rank: int) -> bytes:
        n = ctypes.c_size_t()
        return ctypes.string_at(library.lib().sw_save_order(self._handle, rank, ctypes.byref(n)), n.value)

    def is_under_way(self) -> bool:
        """A save begins and ends on one thread: is it a living one that does nothing else yet?"""
        return self._finalizer.alive and self._thread.is_alive() and self._thread is not threading.current_thread()

    def publish(self) -> None:
        """Once every rank has written: make it visible, and close."""
        status, ref = library.Status(), ctypes.byref
        with self._lock, library.interruptible() as self._filled.cancel:
            if not self._finalizer.detach():
                raise UsageError("this save was given up before it was complete")
            code = library.lib().sw_save_publish(self._handle, ref(status))
            code = library.lib().sw_save_free(self._handle, ref(status)) or code
        library.check(code, status)

    def close(self) -> None:
        """What is not published is removed."""
        with self._lock:
            self._finalizer()


_under_way: weakref.WeakSet[SaveInSteps] = weakref.WeakSet()


def _give_up_abandoned() -> None:
    """Those that failed where nobody could tell us; the exception, and all that it holds, may live on for a while."""
    for save in list(_under_way):
        if not save.is_under_way():
            save.close()


def _give_up(handle: ctypes.c_void_p, _options: Any, pid: int) -> None:
    if os.getpid() == pid:  # a forked child holds nothing
        library.lib().sw_save_free(handle, ctypes.byref(library.Status()))


def write_order(order: bytes, items: Sequence[Item]) -> None:
    """A rank's part: write its boxes, those that the coordinator was told of. Local."""
    array, status = _array(items), library.Status()
    with library.interruptible() as cancel:
        code = library.lib().sw_save_write(order, len(order), array, len(items), cancel, ctypes.byref(status))
    library.check(code, status)
