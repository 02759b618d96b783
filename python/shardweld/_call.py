"""One call of the library by all ranks of a group: agree on the arguments, make structs of them, call, raise what it says. A function of the
library that takes a communicator, paths, options and a result is a line of `_commands`."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._bar import end_bar, make_bar
from ._comm import Comm
from ._errors import Code, ShardweldError
from ._library import Sized, Status, encode_path, interruptible, lib, make_options

if TYPE_CHECKING:
    from .options import PathLike, Progress


def _comparable(value: Any) -> Any:
    """What ranks compare of an argument: a long text by its digest."""
    if isinstance(value, str) and len(value) > 256:
        return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_comparable(v) for v in value]
    return value


def call_together(
    group: Comm,
    function: str,
    paths: Mapping[str, PathLike],
    prepare: Callable[[], Mapping[str, Any]],
    result: Sized,
    *,
    name: str | None = None,
    progress: Progress = None,
    given: Mapping[str, Any] | None = None,
    before: Callable[[], ctypes.Structure] | None = None,
    behind: Callable[[], ctypes.Structure] | None = None,
) -> ShardweldError | None:
    """Collective. Call sw_FUNCTION(comm, paths, [before,] options, [behind,] result, status).

    Args:
        group: who calls
        function: its name without sw_
        paths: by the names of the arguments, in the order in which C takes them
        prepare: makes the options, here, where all ranks hear of an error
        result: a struct for it, which is filled in; the caller releases it
        name: of the call, where that is another one; ranks in different calls are told of
        progress: see options.Progress
        given: what else the caller was given and must be equal on every rank
        before, behind: make a struct of that, here, for C to take before or behind the options

    Returns:
        None; what the library says where it has found a difference, which is an answer.

    Raises:
        ShardweldError: the same on every rank
    """
    error: Exception | None = None
    raw: list[bytes] = []
    arguments: dict[str, Any] = {}
    struct: Any = None
    bar: Callable[[int, int], object] | None = None
    structs: list[Any] = []
    try:
        values = prepare()
        raw = [encode_path(path) for path in paths.values()]
        bar = make_bar(progress, name or function)
        struct = make_options(values, bar)
        structs = [ctypes.byref(s) for s in (before and before(), struct, behind and behind()) if s is not None]
        arguments = {k: _comparable(v) for k, v in {**values, **(given or {})}.items()}
        arguments.update(zip(paths, raw))
        if struct.node_local:  # each rank may have shards of its own
            arguments.pop("input_dir", None)
    except Exception as e:  # the others must hear of it, whatever it is
        error = e
    group.agree(name or function, error, arguments)
    if group.kind == "mpi":
        lib().sw_transport_defaults(raw[-1])
    status, ref, code = Status(), ctypes.byref, int(Code.CANCEL)
    try:
        with interruptible() as struct.cancel:
            code = getattr(lib(), f"sw_{function}")(ref(group.struct), *raw, *structs, ref(result), ref(status))
    finally:
        end_bar(bar, code in (Code.OK, Code.DIFF))
    if code == Code.DIFF:
        group.check(0, status)
        return status.error()
    group.check(code, status)
    return None
