"""Torch's two functions that weld the shards of a checkpoint into whole files, done by the library."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._comm import Comm, NotMember, open_comm
from ._commands import weld_together
from ._errors import UsageError
from ._library import checked_name, index_map, json_text, logger

if TYPE_CHECKING:
    from .options import CommLike, ConsolidateOptions, DTypeLike, PathLike, ProcessGroup

__all__ = ["consolidate_safetensors_files", "consolidate_safetensors_files_on_every_rank"]


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

        >>> import numpy, shardweld
        >>> shardweld.save("sharded", {"a": numpy.ones((4, 2)), "b": numpy.zeros(3)}, consolidated=False)
        >>> shardweld.consolidate_safetensors_files("sharded", "model", {"a": 1, "b": 2}, cast_dtype="bf16")
        >>> [file.name for file in shardweld.Checkpoint("model").files()]
        ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']

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

        >>> import numpy, shardweld
        >>> shardweld.save("sharded", {"a": numpy.ones((4, 2)), "b": numpy.zeros(3)}, consolidated=False)
        >>> shardweld.consolidate_safetensors_files_on_every_rank("sharded", "model", None)
        >>> [file.name for file in shardweld.Checkpoint("model").files()]
        ['model.safetensors']

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
    result = weld_together(group, what, input_dir, output_dir, prepare)
    if group.rank == 0:
        seconds = time.monotonic() - begun
        logger.info("welded %s: %d tensors, %d bytes in %.2f s", output_dir, result.tensors, result.bytes, seconds)
