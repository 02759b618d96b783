"""Errors of the library as exceptions: each carries file, tensor and reason, and each is also the built-in exception
that callers of torch's functions catch already."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
from collections.abc import Iterator
from typing import Any


class Code(enum.IntEnum):
    """The codes of include/shardweld.h, in its order."""

    OK = 0
    DIFF = 1
    INTERNAL = 2
    COMM = 3
    CANCEL = 4
    USAGE = 5
    INPUT = 6
    IO = 7
    NOMEM = 8


# What the program would end with.
_EXIT_STATUS = {
    Code.OK: 0,
    Code.DIFF: 1,
    Code.INTERNAL: 1,
    Code.COMM: 1,
    Code.CANCEL: 1,
    Code.USAGE: 2,
    Code.INPUT: 3,
    Code.IO: 4,
    Code.NOMEM: 4,
}

# Reasons end with the system's own words, or begin with ours.
_ENDS = {os.strerror(number).lower(): number for number in sorted(errno.errorcode, reverse=True)}
_BEGINS = {"no such file": errno.ENOENT, "no such directory": errno.ENOENT, "no space": errno.ENOSPC}


def _errno_of(reason: str) -> int | None:
    text = reason.lower()
    begins = (number for words, number in _BEGINS.items() if text.startswith(words))
    return next(begins, None) or next((number for words, number in _ENDS.items() if text.endswith(words)), None)


class ShardweldError(RuntimeError):
    """A call failed, here or on another rank. `shardweld.Error` is the same.

        >>> import shardweld
        >>> try:
        ...     shardweld.load("nowhere")
        ... except shardweld.Error as e:
        ...     print(f"{e.code.name}, file {e.file!r}, {isinstance(e, FileNotFoundError)}, status {e.exit_status}")
        INPUT, file 'nowhere', True, status 3

    Attributes:
        code: what kind of error, a `Code`
        file: the file it is about, "" where it is about none
        tensor: the FQN, "" likewise
        reason: what was found and what was expected
        rank, host: who found it, of several ranks; None and "" where one process was alone
        exit_status: what the program `shardweld` would end with
    """

    code: Code = Code.INTERNAL

    def __init__(
        self,
        reason: str,
        *,
        file: str = "",
        tensor: str = "",
        code: Code | int | None = None,
        who: tuple[int, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = Code(code) if code is not None else type(self).code
        self.file = file
        self.tensor = tensor
        self.reason = reason
        self.rank: int | None = who[0] if who else None
        self.host = who[1] if who else ""

    @property
    def exit_status(self) -> int:
        return _EXIT_STATUS[self.code]

    def __str__(self) -> str:
        tensor = f"tensor '{self.tensor}'" if self.tensor else ""
        who = f" (rank {self.rank} on {self.host})" if self.host else ""
        return ": ".join(part for part in (self.file, tensor, self.reason) if part) + who

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (int(self.code), self.file, self.tensor, self.reason, self.who)

    @property
    def who(self) -> tuple[int, str] | None:
        return (self.rank, self.host) if self.rank is not None else None


class UsageError(ShardweldError, ValueError):
    """An argument is wrong, or arguments do not go together."""

    code = Code.USAGE


class InputError(ShardweldError, ValueError):
    """The input is not a valid checkpoint."""

    code = Code.INPUT


class SystemFailure(ShardweldError, OSError):
    """The system failed: no space, no permission, a bad disk. `errno` is set where the reason tells it."""

    code = Code.IO


class MissingError(InputError, FileNotFoundError):
    """The input is not there."""


class OutOfMemory(ShardweldError, MemoryError):
    """No memory."""

    code = Code.NOMEM


class CommError(ShardweldError):
    """The ranks can no longer reach one another: mostly because one of them has ended. Nothing can be agreed upon."""

    code = Code.COMM


class Cancelled(ShardweldError):
    """Some rank was interrupted."""

    code = Code.CANCEL


class DifferenceError(ShardweldError):
    """A comparison found a difference."""

    code = Code.DIFF


@contextlib.contextmanager
def about(tensor: str) -> Iterator[None]:
    """A wrong argument that is found in here has to do with this tensor."""
    try:
        yield
    except UsageError as e:
        e.tensor = e.tensor or tensor
        raise


_CLASSES: dict[Code, type[ShardweldError]] = {
    kind.code: kind
    for kind in (UsageError, InputError, SystemFailure, OutOfMemory, CommError, Cancelled, DifferenceError)
}


def make_error(
    code: int, file: str, tensor: str, reason: str, who: tuple[int, str] | None = None
) -> ShardweldError:
    """The exception for what an sw_status says; who: rank and host."""
    number = _errno_of(reason)
    kind = _CLASSES.get(Code(code), ShardweldError)
    if kind is InputError and number == errno.ENOENT:
        kind = MissingError
    error = kind(reason, file=file, tensor=tensor, code=code, who=who)
    if isinstance(error, OSError):
        error.errno = number
        error.strerror = reason
        error.filename = file or None
    return error


def _rebuild(
    code: int, file: str, tensor: str, reason: str, who: tuple[int, str] | None = None
) -> ShardweldError:
    return make_error(code, file, tensor, reason, who)
