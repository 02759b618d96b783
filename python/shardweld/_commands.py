"""The commands of the program as functions, and what they give: consolidate (weld), reshard, verify, diff; inspect is in `_inspect`."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._call import call_together
from ._comm import Comm, open_comm
from ._errors import ShardweldError
from ._library import Result, Sharding, Sized, Tolerance, decode, encode, lib, logger, text_array, words_of
from ._library import Verification as RawVerification
from ._show import count, lines_html, size_text, table_html
from .checkpoint import Finding, read_findings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import CheckOptions, CommLike, ConsolidateOptions, DiffOptions, PathLike, Progress, ReshardOptions, VerifyOptions

__all__ = ["Verification", "WeldResult", "check", "consolidate", "diff", "reshard", "verify", "weld"]

_ROWS = 24  # of a table in a notebook


@dataclasses.dataclass(frozen=True, repr=False)
class WeldResult:
    """What a run did. Sizes are bytes, times seconds. Its repr() is short; a notebook shows a table of the files.

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

    def __repr__(self) -> str:
        seconds = sum(self.stats[f"seconds_{step}"] for step in ("plan", "write", "copy", "verify", "publish"))
        shards = f", from shards {self.stats['shards']}" if self.stats["shards"] else ""
        what = f"{count(len(self.files), 'file')}, {count(self.tensors, 'tensor')}, {size_text(self.bytes)} in {seconds:.1f} s"
        return f"<shardweld.WeldResult: {what}{shards}>"

    def _repr_html_(self) -> str:
        rows = [(name, f"{tensors:,}", size_text(size)) for name, tensors, size in self.files[:_ROWS]]
        return lines_html(repr(self)) + table_html(("file", "tensors", "size"), rows, len(self.files) - _ROWS)


@dataclasses.dataclass(frozen=True, repr=False)
class Verification:
    """What a comparison came to; it is true where nothing is wrong. Sizes are bytes, times seconds.

    Attributes:
        findings: all that differs or is wrong, by file, then tensor
        files, tensors, bytes: weight files of the consolidated checkpoint; tensors that were compared, and their bytes
        replicas: copies of boxes that were compared with the one that is used
        stats: all numbers of sw_verification by name; shards (which shard numbers were there)
        error: what raise_for_findings() raises; None where nothing is wrong
    """

    findings: list[Finding]
    files: int
    tensors: int
    bytes: int
    replicas: int
    stats: dict[str, Any]
    error: ShardweldError | None = None

    @property
    def ok(self) -> bool:
        """Is nothing wrong?"""
        return self.error is None

    def __bool__(self) -> bool:
        return self.ok

    def raise_for_findings(self) -> None:
        """Raises DifferenceError where something is wrong: it tells the first finding, and how many there are."""
        if self.error is not None:
            raise self.error

    def __repr__(self) -> str:
        compared = f"{count(self.tensors, 'tensor')}, {size_text(self.bytes)} in {count(self.files, 'file')} compared"
        lines = [f"  {finding}" for finding in self.findings[:_ROWS]]
        more = [f"  and {len(self.findings) - _ROWS:,} more"] if len(self.findings) > _ROWS else []
        says = "equal" if self.ok else count(len(self.findings), "finding")
        return "\n".join([f"<shardweld.Verification: {says}; {compared}>", *lines, *more])

    def _repr_html_(self) -> str:
        rows = [(f.file, f.tensor, f.reason, f.hint) for f in self.findings[:_ROWS]]
        table = table_html(("file", "tensor", "reason", "hint"), rows, len(self.findings) - _ROWS) if rows else ""
        return lines_html(repr(self).splitlines()[0]) + table


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

        >>> import numpy, shardweld
        >>> shardweld.save("step-1000", {"w": numpy.ones((6, 4), "float32")}, consolidated=False)
        >>> result = shardweld.consolidate("step-1000", "model", cast_dtype="fp16", single_file=True)
        >>> result.files
        [('model.safetensors', 1, 144)]

    Args:
        input_dir: directory of the shards
        output_dir: directory of the result, made if missing
        comm: who works; see `shardweld.Comm` (None: torch's process group, the MPI job, or this process)
        progress: True: a bar on rank 0, on a terminal or in a notebook; or a function that is called there with (bytes done, bytes in all)
        options: those of the program with underscores, as sw_options has them: see shardweld.options.ConsolidateOptions. Casts may be
            torch's dtypes, sizes text such as "5GB", name_rules are ("strip", prefix) and ("rename", before, to). Equal on every rank, as
            the directories are (with node_local input_dir may differ)

    Raises:
        UsageError: output_dir holds a checkpoint and overwrite is not given; options that exclude one another; another run is at work there
        InputError: the shards are no valid checkpoint (MissingError: they are not there); names file and tensor
        SystemFailure, OutOfMemory, CommError: the system failed
        Each is the same on every rank, and nothing has appeared in output_dir then.
    """
    with open_comm(comm) as group:
        return weld_together(group, "consolidate", input_dir, output_dir, lambda: dict(options), progress)


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

        >>> import numpy, shardweld
        >>> shardweld.save("model", {"w": numpy.ones((6, 4), "float32")})
        >>> result = shardweld.reshard("model", "for-two-by-two", "2x2", "shard0,shard1")
        >>> [name for name, tensors, size in result.files]  # doctest: +NORMALIZE_WHITESPACE
        ['shard-00001-model-00001-of-00001.safetensors', 'shard-00002-model-00001-of-00001.safetensors',
         'shard-00003-model-00001-of-00001.safetensors', 'shard-00004-model-00001-of-00001.safetensors']
        >>> shardweld.Checkpoint("for-two-by-two").tensor("w").sharding
        '2x2 grid'

    Args:
        input_dir: a sharded or consolidated checkpoint
        output_dir: directory of the result, made if missing
        mesh: sizes of the mesh of ranks that will load it, e.g. "2x4"; how many ranks do the work does not matter
        placements: one for each dimension of the mesh, e.g. "shard0,replicate"; None = shard0 for each
        rules: "GLOB=PLACEMENTS" for tensors whose names match; the first that does counts
        comm, progress, options: as in `consolidate()`; see shardweld.options.ReshardOptions

    Raises:
        as `consolidate()`; UsageError also for a mesh or placement that is none
    """
    with open_comm(comm) as group:
        paths, result = {"input_dir": input_dir, "output_dir": output_dir}, Result()
        given = {"mesh": mesh, "placements": placements, "rules": rules}
        try:
            call_together(
                group, "reshard", paths, lambda: dict(options), result, progress=progress,
                given=given, before=lambda: _sharding(mesh, placements, rules),
            )  # fmt: skip
            return _weld_result(result)
        finally:
            lib().sw_result_release(ctypes.byref(result))


def verify(
    input_dir: PathLike,
    output_dir: PathLike,
    *,
    comm: CommLike = None,
    progress: Progress = None,
    **options: Unpack[VerifyOptions],
) -> Verification:
    """Does the consolidated checkpoint hold, byte for byte, what consolidate() would make of the shards? Every byte of both is read:
    `shardweld verify` as a function. Collective over `comm`. Nothing is written.

        >>> import numpy, shardweld
        >>> shardweld.save("step-1000", {"w": numpy.ones((6, 4), "float32")}, consolidated=False)
        >>> shardweld.save("model", {"w": numpy.zeros((6, 4), "float32")})
        >>> verification = shardweld.verify("step-1000", "model")
        >>> if not verification:
        ...     print(verification.findings[0].tensor)
        w

    Args:
        input_dir: directory of the shards
        output_dir: the consolidated checkpoint that is looked at
        comm, progress: as in `consolidate()`
        options: those that it was made with: see shardweld.options.VerifyOptions. Without one for the layout it may be laid out in any way

    Returns:
        What was found, the same on every rank: true where the two are equal. raise_for_findings() makes an error of what is wrong.

    Raises:
        InputError: the shards are no valid checkpoint, or output_dir has neither index nor weights
        UsageError: options that exclude one another
        SystemFailure, OutOfMemory, CommError: the system failed
    """
    with open_comm(comm) as group:
        return _compare(group, "verify", {"input_dir": input_dir, "output_dir": output_dir}, options, progress)


def diff(
    a: PathLike,
    b: PathLike,
    *,
    absolute: float = 0.0,
    relative: float = 0.0,
    comm: CommLike = None,
    progress: Progress = None,
    **options: Unpack[DiffOptions],
) -> Verification:
    """What differs between the tensors of two checkpoints of any kind: `shardweld diff` as a function. Collective over `comm`. Nothing is
    written; files, index and side files are not looked at.

        >>> import numpy, shardweld
        >>> shardweld.save("here", {"w": numpy.ones((6, 4), "float32")}, consolidated=False)
        >>> shardweld.save("there", {"w": numpy.full((6, 4), 1.25, "float32")})
        >>> (finding,) = shardweld.diff("here", "there").findings
        >>> finding.tensor, finding.differing, finding.largest, finding.relative
        ('w', 24, 0.25, 0.2)
        >>> bool(shardweld.diff("here", "there", absolute=0.5))
        True

    Args:
        a, b: directories of shards, of whole tensors, or of a distributed checkpoint; or single files
        absolute, relative: values that are at most so far apart count as equal, by themselves or in proportion to the larger of the two:
            one of them is enough, and two that are no numbers are equal then; 0, 0: every bit counts
        comm, progress: as in `consolidate()`
        options: include and exclude choose from both; name_rules and values change a before it is compared: see
            shardweld.options.DiffOptions

    Returns:
        A finding for each tensor that only one of them has, or that differs in dtype, shape or values; the same on every rank; true where
        there is none. files are those of b.

    Raises:
        InputError: one of them is no valid checkpoint
        UsageError: options that exclude one another, a tolerance below 0
        SystemFailure, OutOfMemory, CommError: the system failed
    """
    with open_comm(comm) as group:
        allowed = (float(absolute), float(relative))
        return _compare(group, "diff", {"a": a, "b": b}, options, progress, allowed, lambda: Tolerance(*allowed))


def check(path: PathLike, *, comm: CommLike = None, **options: Unpack[CheckOptions]) -> Verification:
    """Is the checkpoint what its shardweld.manifest.json says, which manifest=True has made? `shardweld check` as a function.
    Collective over `comm`. No shards are needed, and nothing is written.

        >>> import numpy, shardweld
        >>> shardweld.save("model", {"w": numpy.zeros((6, 4), "float32")}, manifest=True)
        >>> shardweld.check("model").ok
        True

    Args:
        path: directory of the checkpoint
        comm: as in `consolidate()`
        options: quick (sizes, headers and indices alone) and buffer_size

    Returns:
        What was found, the same on every rank: true where all is as it was written.

    Raises:
        InputError: there is no manifest, or none that can be understood
        UsageError: libxxhash is not there
        SystemFailure, OutOfMemory, CommError: the system failed
    """
    with open_comm(comm) as group:
        return _compare(group, "check", {"path": path}, options, None)


# ---- how --------------------------------------------------------------------------------------------------------------


def weld_together(
    group: Comm,
    name: str,
    input_dir: PathLike,
    output_dir: PathLike,
    prepare: Callable[[], Mapping[str, Any]],
    progress: Progress = None,
) -> WeldResult:
    """Collective. sw_consolidate(), called by that name; prepare makes its options."""
    paths, result = {"input_dir": input_dir, "output_dir": output_dir}, Result()
    try:
        call_together(group, "consolidate", paths, prepare, result, name=name, progress=progress)
        welded = _weld_result(result)
    finally:
        lib().sw_result_release(ctypes.byref(result))
    if group.rank == 0:
        _warn_of_few(input_dir, welded.stats, _callers(group))
    return welded


def _compare(
    group: Comm,
    function: str,
    paths: Mapping[str, PathLike],
    options: Mapping[str, Any],
    progress: Progress,
    allowed: tuple[float, float] | None = None,
    behind: Callable[[], ctypes.Structure] | None = None,
) -> Verification:
    """Collective. What sw_FUNCTION() finds to differ."""
    raw = RawVerification()
    given = None if allowed is None else {"tolerance": allowed}
    try:
        error = call_together(group, function, paths, lambda: dict(options), raw, progress=progress, given=given, behind=behind)
        findings = read_findings(raw.findings, raw.nfindings)
        return Verification(findings, raw.files, raw.tensors, raw.bytes, raw.replicas, _stats(raw), error)
    finally:
        lib().sw_verification_release(ctypes.byref(raw))


def _sharding(mesh: str, placements: str | None, rules: str | Sequence[str]) -> Sharding:
    return Sharding(encode(mesh), None if placements is None else encode(placements), text_array(rules))


def _weld_result(r: Result) -> WeldResult:
    return WeldResult(
        files=[(decode(r.files[i].name), r.files[i].tensors, r.files[i].size) for i in range(r.nfiles)],
        index=decode(r.index) if r.index else None,
        assets=[decode(r.assets[i]) for i in range(r.nassets)],
        tensors=r.tensors,
        parameters=r.parameters,
        bytes=r.bytes,
        recovered=r.recovered,
        stats={**_stats(r), "shards_listed": bool(r.shards_listed)},
    )


_NUMBERS = (ctypes.c_uint64, ctypes.c_int, ctypes.c_double)


def _stats(raw: Sized) -> dict[str, Any]:
    """All numbers of a result by name; which shards there were, and how the files were assigned."""
    plain = {name: getattr(raw, name) for name, kind, *_ in raw._fields_[1:] if kind in _NUMBERS}
    return {**plain, "shards": decode(raw.shards) or None, "assign": words_of("assign")[raw.assign]}


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
