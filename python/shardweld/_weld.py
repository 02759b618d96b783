"""Weld the shards of a checkpoint into whole files, or write them anew for another mesh: what the program does, and torch's two functions."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._bar import end_bar, make_bar
from ._comm import Comm, NotMember, open_comm
from ._errors import UsageError
from ._library import (
    Result,
    Sharding,
    Status,
    checked_name,
    decode,
    encode,
    encode_path,
    index_map,
    interruptible,
    json_text,
    lib,
    logger,
    make_options,
    text_array,
    words_of,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import CommLike, ConsolidateOptions, DTypeLike, PathLike, ProcessGroup, Progress, ReshardOptions


@dataclasses.dataclass(frozen=True)
class WeldResult:
    """What a run did. Sizes are bytes, times seconds.

    Attributes:
        files: (name, number of tensors, size with header) of each output file
        index: name of the index file, None where there is none
        assets: names of the model's other files that came along; only on rank 0
        tensors, parameters, bytes: how many tensors, elements, and bytes of tensor data
        recovered: an interrupted publication was completed, and was what this run asked for
        stats: all numbers of sw_result by name; shards (which shard numbers were there, "1 to 8") and shards_listed
    """

    files: list[tuple[str, int, int]]
    index: str | None
    assets: list[str]
    tensors: int
    parameters: int
    bytes: int
    recovered: bool
    stats: dict[str, Any]


def consolidate(
    input_dir: PathLike,
    output_dir: PathLike,
    *,
    comm: CommLike = None,
    progress: Progress = None,
    **options: Unpack[ConsolidateOptions],
) -> WeldResult:
    """Weld a sharded checkpoint into a consolidated one: `shardweld consolidate` as a function, which is also called `weld`. Collective
    over `comm`.

    Args:
        input_dir: directory of the shards
        output_dir: directory of the result, made if missing
        comm: who works; see `shardweld.Comm` (None: torch's process group, the MPI job, or this process)
        progress: True: a bar on rank 0, on a terminal or in a notebook; or a function that is called there with (bytes done, bytes in all)
        options: those of the program with underscores, as sw_options has them: see shardweld.options.ConsolidateOptions. Casts may be
            torch's dtypes, sizes text such as "5GB", name_rules are ("strip", prefix) and ("rename", before, to). Equal on every rank, as
            the directories are (with node_local input_dir may differ)

    Raises:
        ShardweldError: one of its kinds, with file, tensor and reason, the same on every rank.
    """
    with open_comm(comm) as group:
        return _weld(group, "consolidate", input_dir, output_dir, lambda: dict(options), progress)


weld = consolidate


def reshard(
    input_dir: PathLike,
    output_dir: PathLike,
    mesh: str,
    placements: str | None = None,
    rules: str | Sequence[str] = (),
    *,
    comm: CommLike = None,
    progress: Progress = None,
    **options: Unpack[ReshardOptions],
) -> WeldResult:
    """Write a checkpoint again as the shard files of another mesh: `shardweld reshard` as a function. Collective over `comm`.

    Args:
        input_dir: a sharded or consolidated checkpoint
        output_dir: directory of the result, made if missing
        mesh: sizes of the mesh of ranks that will load it, e.g. "2x4"; how many ranks do the work does not matter
        placements: one for each dimension of the mesh, e.g. "shard0,replicate"; None = shard0 for each
        rules: "GLOB=PLACEMENTS" for tensors whose names match; the first that does counts
        comm, progress, options: as in `consolidate()`; see shardweld.options.ReshardOptions

    Raises:
        ShardweldError: one of its kinds, with file, tensor and reason, the same on every rank.
    """
    with open_comm(comm) as group:
        sharding = {"mesh": mesh, "placements": placements, "rules": rules}
        return _weld(group, "reshard", input_dir, output_dir, lambda: dict(options), progress, sharding)


def consolidate_safetensors_files(
    input_dir: PathLike,
    output_dir: PathLike,
    fqn_to_index_mapping: Mapping[str, int] | None,
    num_threads: int = 1,
    use_staging: bool = False,
    staging_dir: PathLike | None = None,
    cast_dtype: DTypeLike = None,
    fqn_to_dtype_mapping: Mapping[str, DTypeLike] | None = None,
    *,
    comm: CommLike = "self",
    options: ConsolidateOptions | None = None,
) -> None:
    """What torch.distributed.checkpoint's function of this name does, by this process alone. Not collective, as the original: torch's
    writers call it on one rank while the others do something else.

    A checkpoint that is in output_dir already is replaced; the model's other files are not copied.

    Args:
        input_dir: directory of the shards
        output_dir: directory of the result, made if missing
        fqn_to_index_mapping: output file of each tensor, from 1; names that no shard holds (tied weights) are left out with a warning.
            None: one model.safetensors
        num_threads: ignored. One process copies as fast as its core does; to use more, call
            `consolidate_safetensors_files_on_every_rank` from several processes
        use_staging, staging_dir: weld in staging_dir (None: the system's directory for temporary files), then copy the files to
            output_dir, the index last. Without use_staging everything is staged in a hidden directory inside output_dir, where
            publishing it is a rename; so it is for ranks on several machines, with a warning: they need not share staging_dir
        cast_dtype: floating-point tensors become this (a torch.dtype or its name; bf16, fp16, fp32, fp64). Tensors that
            fqn_to_dtype_mapping maps to F32 stay or become F32, unless it does so for every floating-point tensor
        fqn_to_dtype_mapping: {fqn: dtype}, spelled as safetensors or torch do: without cast_dtype, floating-point tensors that were saved
            as another floating-point dtype are restored to this one. None: nothing is restored
        comm: who works, when it is not this process alone: see `shardweld.Comm`; then it is collective
        options: further options of `consolidate()`, e.g. {"no_sync": True}

    Raises:
        InputError: (a ValueError) the shards are no valid checkpoint, or the mapping lacks a tensor
        MissingError: (a FileNotFoundError) input_dir is not there
        SystemFailure: (an OSError) no space, no permission
        UsageError: (a ValueError) arguments that make no sense; another run is at work in output_dir
    """
    del num_threads
    prepare = _drop_in(fqn_to_index_mapping, cast_dtype, fqn_to_dtype_mapping, options)
    with open_comm(comm) as group:
        prepare = _staged(group, prepare, use_staging, staging_dir)
        _logged(group, "consolidate_safetensors_files", input_dir, output_dir, prepare)


def consolidate_safetensors_files_on_every_rank(
    input_dir: PathLike,
    output_dir: PathLike,
    fqn_to_index_mapping: Mapping[str, int] | None,
    num_threads: int = 1,
    process_group: ProcessGroup | None = None,
    use_staging: bool = False,
    staging_dir: PathLike | None = None,
    cast_dtype: DTypeLike = None,
    fqn_to_dtype_mapping: Mapping[str, DTypeLike] | None = None,
    *,
    comm: CommLike = None,
    options: ConsolidateOptions | None = None,
) -> None:
    """What torch.distributed.checkpoint's function of this name does: every rank writes its part, of each file if need be. Collective.

    The ranks are those of process_group; without it, of torch's default process group if it is initialised; else of the MPI job that this process
    is one of; else it is this process alone. A process that is no member of process_group does nothing.

    Args: as `consolidate_safetensors_files()`, equal on every rank, and
        process_group: a ProcessGroup of torch, with any backend
        comm: the same, or a communicator of mpi4py; not both

    Raises:
        as `consolidate_safetensors_files()`, on every rank;
        UsageError: ranks were called with different arguments; N processes that cannot reach one another
        CommError: (a RuntimeError) a rank has ended meanwhile
    """
    del num_threads
    if process_group is not None and comm is not None:
        raise UsageError("process_group and comm are given, expected one of them")
    prepare = _drop_in(fqn_to_index_mapping, cast_dtype, fqn_to_dtype_mapping, options)
    try:
        with open_comm(process_group if comm is None else comm) as group:
            prepare = _staged(group, prepare, use_staging, staging_dir)
            _logged(group, "consolidate_safetensors_files_on_every_rank", input_dir, output_dir, prepare)
    except NotMember:
        logger.warning("consolidate_safetensors_files_on_every_rank: this process is not a member of the process group")


# ---- how -------------------------------------------------------------------------------------------------------------


def _drop_in(
    fqn_to_index_mapping: Mapping[str, int] | None,
    cast_dtype: Any,
    fqn_to_dtype_mapping: Mapping[str, DTypeLike] | None,
    more: ConsolidateOptions | None,
) -> Callable[[], dict[str, Any]]:
    """The library's options for the arguments of torch's functions; made later, where an error can be agreed upon."""

    def prepare() -> dict[str, Any]:
        dtypes = {checked_name(fqn): str(dtype) for fqn, dtype in dict(fqn_to_dtype_mapping or {}).items()}
        options: dict[str, Any] = {"overwrite": True, "no_assets": True, "cast_dtype": cast_dtype, "dtype_map_text": json_text(dtypes)}
        if fqn_to_index_mapping is None:
            options["single_file"] = True
        else:
            options["fqn_map_text"] = index_map(fqn_to_index_mapping)
        return {**options, **(more or {})}

    return prepare


def _staged(
    group: Comm, prepare: Callable[[], dict[str, Any]], use_staging: bool, staging_dir: PathLike | None
) -> Callable[[], dict[str, Any]]:
    """Collective. The same, and where to stage. A directory of that name on another machine may be another one."""
    if group.size > 1 and len(set(group.gather(socket.gethostname()))) > 1:
        if use_staging and group.rank == 0:
            logger.warning("use_staging is for ranks on one machine: these stage inside the output directory")
        use_staging = False
    if not use_staging:
        return prepare
    return lambda: {"staging_dir": staging_dir or tempfile.gettempdir(), **prepare()}


def _logged(
    group: Comm, what: str, input_dir: PathLike, output_dir: PathLike, prepare: Callable[[], dict[str, Any]]
) -> None:
    begun = time.monotonic()
    result = _weld(group, what, input_dir, output_dir, prepare, None)
    if group.rank == 0:
        seconds = time.monotonic() - begun
        logger.info("welded %s: %d tensors, %d bytes in %.2f s", output_dir, result.tensors, result.bytes, seconds)


def _comparable(value: Any) -> Any:
    """What ranks compare of an argument: a long text by its digest."""
    if isinstance(value, str) and len(value) > 256:
        return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_comparable(v) for v in value]
    return value


def _weld(
    group: Comm,
    what: str,
    input_dir: PathLike,
    output_dir: PathLike,
    prepare: Callable[[], dict[str, Any]],
    progress: Progress,
    sharding: Mapping[str, Any] | None = None,
) -> WeldResult:
    """Collective. Agree on the arguments, call the library; with sharding its sw_reshard()."""
    error: Exception | None = None
    arguments: dict[str, Any] = {}
    struct: Any = None
    bar = None
    source = target = b""
    shards = None
    try:
        values = prepare()
        source, target = encode_path(input_dir), encode_path(output_dir)
        bar = make_bar(progress, what)
        struct = make_options(values, bar)
        shards = _sharding(**sharding) if sharding else None
        arguments = {k: _comparable(v) for k, v in {**values, **(sharding or {})}.items()}
        arguments["output_dir"] = target
        arguments["input_dir"] = None if struct.node_local else source
    except Exception as e:  # the others must hear of it, whatever it is
        error = e
    group.agree(what, error, arguments)
    try:
        result = _call(group, source, target, shards, struct)
    finally:
        end_bar(bar)
    if group.rank == 0 and shards is None:
        _warn_of_few(input_dir, result.stats, _callers(group))
    return result


def _callers(group: Comm) -> int:
    """How many processes the group has that calls: torch's default one where this process was asked to work alone."""
    dist = sys.modules.get("torch.distributed")
    if group.size == 1 and dist is not None and dist.is_available() and dist.is_initialized():
        return int(dist.get_world_size())
    return group.size


def _warn_of_few(input_dir: PathLike, stats: Mapping[str, Any], callers: int) -> None:
    """Those who weld are mostly those who saved. Nothing in torch's shards tells where the last one ends."""
    last = stats["last_shard"]
    if 0 < last < callers and not stats["shards_listed"]:
        logger.warning(
            "%s: the highest shard number is %d, but %d processes are here: if all of them have saved, shards are missing at the end "
            "(torch leaves a file out where a rank has nothing to write); expect_shards=N makes sure",
            os.fsdecode(input_dir),
            last,
            callers,
        )


def _sharding(mesh: str, placements: str | None, rules: str | Sequence[str]) -> Sharding:
    return Sharding(encode(mesh), None if placements is None else encode(placements), text_array(rules))


def _call(group: Comm, source: bytes, target: bytes, shards: Sharding | None, struct: Any) -> WeldResult:
    library, result, status = lib(), Result(), Status()
    function = library.sw_consolidate if shards is None else library.sw_reshard
    what = [] if shards is None else [ctypes.byref(shards)]
    if group.kind == "mpi":
        library.sw_transport_defaults(target)
    try:
        with interruptible() as flag:
            struct.cancel = flag
            code = function(
                ctypes.byref(group.struct),
                source,
                target,
                *what,
                ctypes.byref(struct),
                ctypes.byref(result),
                ctypes.byref(status),
            )
        group.check(code, status)
        return _read_result(result)
    finally:
        library.sw_result_release(ctypes.byref(result))


def _read_result(r: Result) -> WeldResult:
    plain = {name: getattr(r, name) for name, kind, *_ in Result._fields_[1:] if kind in _NUMBERS}
    plain["shards"] = decode(r.shards) if r.shards else None
    plain["shards_listed"] = bool(r.shards_listed)
    plain["assign"] = words_of("assign")[r.assign]
    return WeldResult(
        files=[(decode(r.files[i].name), r.files[i].tensors, r.files[i].size) for i in range(r.nfiles)],
        index=decode(r.index) if r.index else None,
        assets=[decode(r.assets[i]) for i in range(r.nassets)],
        tensors=r.tensors,
        parameters=r.parameters,
        bytes=r.bytes,
        recovered=r.recovered,
        stats=plain,
    )


_NUMBERS = (ctypes.c_uint64, ctypes.c_int, ctypes.c_double)

__all__ = [
    "WeldResult",
    "consolidate",
    "consolidate_safetensors_files",
    "consolidate_safetensors_files_on_every_rank",
    "reshard",
    "weld",
]
