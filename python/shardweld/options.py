"""What functions of this package take, for type checkers: `mypy` and `pyright` find an option that is misspelt, or has the wrong type.

Each class has the members of sw_options (include/shardweld.h) that one function takes, as Python spells them; what they do is told there
and by `shardweld COMMAND --help`. None of them need be given. To hand them on:

    def export(path: str, **options: Unpack[ConsolidateOptions]) -> None:
        shardweld.consolidate(path, path + "-whole", **options)

Nothing here is looked at when a program runs: which options there are, the library says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Union

if TYPE_CHECKING:
    from ._comm import Comm

__all__ = [
    "CheckOptions",
    "CommLike",
    "ConsolidateOptions",
    "DTypeLike",
    "DeviceLike",
    "DiffOptions",
    "OpenOptions",
    "PathLike",
    "ProcessGroup",
    "Progress",
    "ReshardOptions",
    "SaveOptions",
    "VerifyOptions",
]

PathLike = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
#: bytes, or text such as "5GB", "64MiB"
Size = Union[int, str]
#: True: a bar, on a terminal or in a notebook; or what is called on rank 0 with the bytes that are done, and those in all
Progress = Union[bool, Callable[[int, int], object], None]


class _HasItemsize(Protocol):
    """torch.float32, numpy.dtype("float32")."""

    @property
    def itemsize(self) -> int: ...


#: "F32", "float32", "fp32", torch.float32, numpy.float32
DTypeLike = Union[str, "type[Any]", _HasItemsize, None]


class _Device(Protocol):
    """torch.device("cuda:0")."""

    @property
    def type(self) -> str: ...


#: where torch's tensors are: "cuda:0", the number of a GPU, torch.device
DeviceLike = Union[str, int, _Device]


class ProcessGroup(Protocol):
    """Of torch."""

    def rank(self) -> int: ...

    def size(self) -> int: ...


class _Intracomm(Protocol):
    """Of mpi4py."""

    def Is_inter(self) -> bool: ...


#: who works together; see shardweld.Comm
CommLike = Union[Literal["self"], ProcessGroup, _Intracomm, "Comm", None]

NameRule = Union["tuple[Literal['strip'], str]", "tuple[Literal['rename'], str, str]"]


class _Transport(TypedDict, total=False):
    buffer_size: Size | None
    assign: Literal["auto", "band", "owner"] | None
    drop_cache: bool | None


class _Reading(TypedDict, total=False):
    """What is found in the input."""

    block_size: int | tuple[int, int] | str | None
    expect_shards: int | None
    boxes: PathLike | None
    boxes_anywhere: bool | None
    no_config_check: bool | None


class _Making(_Transport, total=False):
    """Which tensors come along, called what, as what values, in which files."""

    fqn_map: PathLike | None
    fqn_map_text: str | None
    like: PathLike | None
    max_shard_size: Size | None
    single_file: bool | None
    include: str | Sequence[str] | None
    exclude: str | Sequence[str] | None
    name_rules: Sequence[NameRule] | None
    cast_dtype: DTypeLike
    dequantize: DTypeLike


class _Whole(TypedDict, total=False):
    """A consolidated checkpoint, which others will load."""

    diffusers: bool | None
    diffusers_index: bool | None
    dtype_map_text: str | None
    assets: PathLike | None


class _Writing(TypedDict, total=False):
    overwrite: bool | None
    no_sync: bool | None
    dry_run: bool | None
    store: Literal["auto", "random", "stream"] | None
    staging_dir: PathLike | None
    stripe: str | None
    hints: str | Sequence[str] | None
    manifest: bool | None
    refuse_nan: bool | None


class _OfFiles(TypedDict, total=False):
    node_local: bool | None
    no_assets: bool | None


class OpenOptions(_Reading, total=False):
    """Of Checkpoint and inspect()."""

    everything: bool | None
    like: PathLike | None
    assets: PathLike | None
    tolerant: bool | None


class ReshardOptions(_Making, _Reading, _OfFiles, _Writing, total=False):
    """Of reshard()."""

    if_needed: bool | None


class ConsolidateOptions(_Making, _Reading, _Whole, _OfFiles, _Writing, total=False):
    """Of consolidate()."""

    verify: bool | None
    if_needed: bool | None


class VerifyOptions(_Making, _Reading, _Whole, _OfFiles, total=False):
    """Of verify()."""


class DiffOptions(_Transport, total=False):
    """Of diff()."""

    include: str | Sequence[str] | None
    exclude: str | Sequence[str] | None
    name_rules: Sequence[NameRule] | None
    cast_dtype: DTypeLike
    dequantize: DTypeLike
    block_size: int | tuple[int, int] | str | None
    no_config_check: bool | None


class CheckOptions(TypedDict, total=False):
    """Of check()."""

    quick: bool | None
    buffer_size: Size | None


class SaveOptions(_Making, _Whole, _Writing, total=False):
    """Of save() and dcp.StorageWriter."""

    block_size: int | tuple[int, int] | str | None
