"""libshardweld through ctypes: the structs and functions of include/shardweld.h, one for one.

The library is found by SHARDWELD_LIBRARY, then beside this package, then where the system looks. It is loaded at its first use, so
that the package can be imported without it. Nothing here initialises MPI.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import itertools
import json
import logging
import operator
import os
import pathlib
import re
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_size_t,
    c_uint,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from ._errors import ShardweldError, UsageError, make_error

logger = logging.getLogger("shardweld")  # where warnings go

VERSION = "0.2.0"  # of the header that this file follows
SONAME = "libshardweld.so.1"
READ_DIMS = 32
SHARDING_TEXT = 192
SIZE_TEXT = 16

# ---- types: in the order of the header --------------------------------------------------------------------------------


class Status(Structure):
    """sw_status."""

    _fields_ = [
        ("code", c_int),
        ("file", c_char * 512),
        ("tensor", c_char * 512),
        ("reason", c_char * 1024),
        ("rank", c_int),
        ("host", c_char * 64),
    ]

    def error(self) -> ShardweldError:
        """The exception that says the same."""
        who = (self.rank, decode(self.host)) if self.host else None
        return make_error(self.code, decode(self.file), decode(self.tensor), phrase(decode(self.reason)), who)


BCAST = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t, c_int)
ALLGATHER = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, POINTER(c_size_t))
BARRIER = CFUNCTYPE(c_int, c_void_p)


class CommStruct(Structure):
    """sw_comm."""

    _fields_ = [
        ("ctx", c_void_p),
        ("rank", c_int),
        ("size", c_int),
        ("bcast", BCAST),
        ("allgather", ALLGATHER),
        ("barrier", BARRIER),
    ]


NAME_STRIP, NAME_RENAME = 0, 1


TOLD = CFUNCTYPE(None, c_void_p, c_char_p)


class Sized(Structure):
    """A struct that begins with its size, as the library is told which members a program knows of."""

    def __init__(self, *args: Any, **members: Any) -> None:
        super().__init__(ctypes.sizeof(self), *args, **members)


class WatchdogOptions(Sized):
    """sw_watchdog_options."""

    _fields_ = [
        ("size", c_size_t),
        ("seconds", c_double),
        ("timeout", c_double),
        ("user", c_void_p),
        ("stalled", TOLD),
        ("expired", TOLD),
    ]


class NameRule(Structure):
    """sw_name_rule. (`from` is a word of Python, so the second member is `before`.)"""

    _fields_ = [("kind", c_int), ("before", c_char_p), ("to", c_char_p)]


WARN = CFUNCTYPE(None, c_void_p, c_char_p)
PROGRESS = CFUNCTYPE(None, c_void_p, c_uint64, c_uint64)


class Option(Structure):
    """sw_option: what the library knows of a member of sw_options."""

    _fields_ = [
        ("name", c_char_p),
        ("kind", c_int),
        ("at", c_size_t),
        ("lays_out", c_bool),
        ("least", c_uint64),
        ("words", POINTER(c_char_p)),
    ]


class ResultFile(Structure):
    """sw_result_file."""

    _fields_ = [("name", c_char_p), ("tensors", c_uint64), ("size", c_uint64)]


class Store(Structure):
    """sw_store."""

    _fields_ = [
        ("kind", c_int),
        ("rewrites", c_bool),
        ("renames", c_bool),
        ("locks", c_bool),
        ("reserves", c_bool),
        ("objects", c_bool),
        ("type", c_char * 32),
        ("targets", c_uint32),
    ]


class Result(Sized):
    """sw_result."""

    _fields_ = [
        ("size", c_size_t),
        ("files", POINTER(ResultFile)),
        ("nfiles", c_uint64),
        ("index", c_char_p),
        ("assets", POINTER(c_char_p)),
        ("nassets", c_uint64),
        ("shard_files", c_uint64),
        ("shards", c_char_p),
        ("last_shard", c_uint64),
        ("shards_listed", c_bool),
        ("boxes", c_uint64),
        ("tensors", c_uint64),
        ("parameters", c_uint64),
        ("bytes", c_uint64),
        ("bytes_written", c_uint64),
        ("buffer_size", c_uint64),
        ("band_size", c_uint64),
        ("rounds", c_uint64),
        ("peak_memory", c_uint64),
        ("assign", c_int),
        ("store", Store),
        ("recovered", c_bool),
        ("ranks", c_int),
        ("io", c_char * 32),
        ("transport", c_char * 512),
        ("seconds_parse", c_double),
        ("seconds_plan", c_double),
        ("seconds_write", c_double),
        ("seconds_copy", c_double),
        ("seconds_verify", c_double),
        ("seconds_publish", c_double),
        ("staging", c_char_p),
        ("unneeded", c_bool),
    ]


class Sharding(Sized):
    """sw_sharding."""

    _fields_ = [("size", c_size_t), ("mesh", c_char_p), ("placements", c_char_p), ("rules", POINTER(c_char_p))]


class Item(Structure):
    """sw_item."""

    _fields_ = [
        ("name", c_char_p),
        ("dtype", c_char_p),
        ("ndim", c_uint),
        ("global_shape", POINTER(c_uint64)),
        ("offsets", POINTER(c_uint64)),
        ("shape", POINTER(c_uint64)),
        ("data", c_void_p),
        ("strides", POINTER(c_int64)),
    ]


class Finding(Structure):
    """sw_finding."""

    _fields_ = [
        ("file", c_char_p),
        ("tensor", c_char_p),
        ("reason", c_char_p),
        ("hint", c_char_p),
        ("differing", c_uint64),
        ("largest", c_double),
        ("relative", c_double),
    ]


class Tolerance(Structure):
    """sw_tolerance."""

    _fields_ = [("absolute", c_double), ("relative", c_double)]


class Verification(Sized):
    """sw_verification."""

    _fields_ = [
        ("size", c_size_t),
        ("findings", POINTER(Finding)),
        ("nfindings", c_uint64),
        ("files", c_uint64),
        ("tensors", c_uint64),
        ("bytes", c_uint64),
        ("replicas", c_uint64),
        ("shard_files", c_uint64),
        ("shards", c_char_p),
        ("buffer_size", c_uint64),
        ("peak_memory", c_uint64),
        ("assign", c_int),
        ("ranks", c_int),
        ("seconds_plan", c_double),
        ("seconds_compare", c_double),
        ("unread", c_uint64),
    ]


KINDS = {0: "sharded", 1: "plain", 2: "file"}


class CheckpointInfo(Structure):
    """sw_checkpoint_info."""

    _fields_ = [
        ("kind", c_int),
        ("sharded", c_bool),
        ("index", c_char_p),
        ("shards", c_char_p),
        ("nfiles", c_uint64),
        ("ntensors", c_uint64),
        ("nboxes", c_uint64),
        ("file_bytes", c_uint64),
        ("parameters", c_uint64),
        ("bytes", c_uint64),
        ("nvalues", c_uint64),
    ]


class FileInfo(Structure):
    """sw_file_info."""

    _fields_ = [
        ("name", c_char_p),
        ("size", c_uint64),
        ("data_start", c_uint64),
        ("tensors", c_uint64),
        ("sharded", c_bool),
        ("broken", c_bool),
        ("shard", c_uint64),
        ("model", c_uint64),
        ("of", c_uint64),
    ]


class NoteInfo(Structure):
    """sw_note_info."""

    _fields_ = [("file", c_uint64), ("key", c_char_p), ("value", c_char_p)]


class TensorInfo(Structure):
    """sw_tensor_info."""

    _fields_ = [
        ("name", c_char_p),
        ("dtype", c_char_p),
        ("ndim", c_uint),
        ("shape", POINTER(c_uint64)),
        ("elements", c_uint64),
        ("bytes", c_uint64),
        ("nboxes", c_uint64),
        ("nreplicas", c_uint64),
        ("file", c_uint64),
        ("broken", c_bool),
        ("holes", c_bool),
        ("overlaps", c_bool),
        ("scale", c_char_p),
        ("counted", c_bool),
        ("nan", c_uint64),
        ("inf", c_uint64),
    ]


class BoxInfo(Structure):
    """sw_box_info."""

    _fields_ = [
        ("offsets", c_uint64 * READ_DIMS),
        ("shape", c_uint64 * READ_DIMS),
        ("strides", c_uint64 * READ_DIMS),
        ("packed", c_bool),
        ("file", c_uint64),
        ("at", c_uint64),
        ("bytes", c_uint64),
    ]


class Read(Structure):
    """sw_read."""

    _fields_ = [
        ("name", c_char_p),
        ("ndim", c_uint),
        ("offsets", POINTER(c_uint64)),
        ("shape", POINTER(c_uint64)),
        ("data", c_void_p),
        ("strides", POINTER(c_int64)),
        ("size", c_uint64),
        ("dtype", c_char_p),
    ]


class ReadOptions(Sized):
    """sw_read_options."""

    _fields_ = [("size", c_size_t), ("threads", c_uint), ("buffer_size", c_uint64), ("cancel", POINTER(c_int)), ("map", c_int)]


class ReadShape(Structure):
    """sw_read_shape."""

    _fields_ = [("dtype", c_char_p), ("ndim", c_uint), ("shape", c_uint64 * READ_DIMS), ("bytes", c_uint64)]


# ---- functions --------------------------------------------------------------------------------------------------------

_comm, _st = POINTER(CommStruct), POINTER(Status)
_opt = c_void_p  # sw_options *, see options_struct()
_cp = c_void_p  # sw_checkpoint *

# name: (result, arguments)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "sw_version": (c_char_p, []),
    "sw_code_exit_status": (c_int, [c_int]),
    "sw_code_text": (c_char_p, [c_int]),
    "sw_status_message": (c_char_p, [_st, c_char_p, c_size_t]),
    "sw_status_sign": (None, [_st, c_int]),
    "sw_watchdog_start": (c_int, [_comm, POINTER(WatchdogOptions), POINTER(c_void_p), _st]),
    "sw_watchdog_stop": (None, [c_void_p]),
    "sw_comm_self": (CommStruct, []),
    "sw_comm_world": (c_int, [_comm, _st]),
    "sw_comm_from_handle": (c_int, [c_char_p, c_size_t, _comm, _st]),
    "sw_comm_launched": (c_bool, []),
    "sw_comm_check_alone": (c_int, [_st]),
    "sw_comm_abort": (None, [c_int]),
    "sw_mpi_kind": (c_char_p, []),
    "sw_mpi_version": (None, [c_char_p, c_size_t]),
    "sw_comm_mpi_release": (None, [_comm]),
    "sw_transport_defaults": (None, [c_char_p]),
    "sw_agree": (c_int, [_comm, _st]),
    "sw_option_at": (POINTER(Option), [c_size_t]),
    "sw_result_release": (None, [POINTER(Result)]),
    "sw_transport_describe": (None, [_comm, POINTER(Result)]),
    "sw_consolidate": (c_int, [_comm, c_char_p, c_char_p, _opt, POINTER(Result), _st]),
    "sw_reshard": (c_int, [_comm, c_char_p, c_char_p, POINTER(Sharding), _opt, POINTER(Result), _st]),
    "sw_save_consolidated": (c_int, [_comm, c_char_p, POINTER(Item), c_size_t, _opt, POINTER(Result), _st]),
    "sw_save_shards": (c_int, [_comm, c_char_p, POINTER(Item), c_size_t, _opt, POINTER(Result), _st]),
    "sw_save_begin": (c_int, [c_char_p, c_bool, POINTER(POINTER(Item)), POINTER(c_size_t), c_size_t, _opt, POINTER(c_void_p), _st]),
    "sw_save_order": (c_void_p, [c_void_p, c_size_t, POINTER(c_size_t)]),
    "sw_save_write": (c_int, [c_char_p, c_size_t, POINTER(Item), c_size_t, POINTER(c_int), _st]),
    "sw_save_publish": (c_int, [c_void_p, _st]),
    "sw_save_free": (c_int, [c_void_p, _st]),
    "sw_verification_release": (None, [POINTER(Verification)]),
    "sw_verify": (c_int, [_comm, c_char_p, c_char_p, _opt, POINTER(Verification), _st]),
    "sw_check": (c_int, [_comm, c_char_p, _opt, POINTER(Verification), _st]),
    "sw_manifest_sums": (c_int, [c_char_p, POINTER(c_char_p), _st]),
    "sw_diff": (c_int, [_comm, c_char_p, c_char_p, _opt, POINTER(Tolerance), POINTER(Verification), _st]),
    "sw_checkpoint_open": (c_int, [_comm, c_char_p, _opt, POINTER(_cp), _st]),
    "sw_checkpoint_free": (None, [_cp]),
    "sw_checkpoint_info_get": (None, [_cp, POINTER(CheckpointInfo)]),
    "sw_checkpoint_file": (None, [_cp, c_uint64, POINTER(FileInfo)]),
    "sw_checkpoint_tensor": (None, [_cp, c_uint64, POINTER(TensorInfo)]),
    "sw_checkpoint_box": (None, [_cp, c_uint64, c_uint64, POINTER(BoxInfo)]),
    "sw_checkpoint_value": (c_char_p, [_cp, c_uint64]),
    "sw_checkpoint_note": (c_bool, [_cp, POINTER(c_uint64), POINTER(NoteInfo)]),
    "sw_checkpoint_find": (c_bool, [_cp, c_char_p, POINTER(c_uint64)]),
    "sw_checkpoint_findings": (POINTER(Finding), [_cp, POINTER(c_uint64)]),
    "sw_checkpoint_cuts": (c_uint64, [_cp, c_uint64, c_uint, POINTER(c_uint64)]),
    "sw_checkpoint_sharding_text": (c_int, [_cp, c_uint64, c_char_p, _st]),
    "sw_checkpoint_read": (c_int, [_cp, POINTER(Read), c_size_t, POINTER(ReadOptions), _st]),
    "sw_checkpoint_read_all": (c_int, [_comm, _cp, POINTER(Read), c_size_t, POINTER(ReadOptions), _st]),
    "sw_checkpoint_read_shape": (c_int, [_cp, c_char_p, c_char_p, POINTER(ReadShape), _st]),
    "sw_local_path": (c_int, [c_char_p, c_char_p, _st]),
    "sw_staging_path": (c_void_p, [c_char_p, c_bool]),
    "sw_size_parse": (c_int, [c_char_p, POINTER(c_uint64), _st]),
    "sw_size_text": (c_char_p, [c_uint64, c_char_p]),
    "sw_text_char": (c_size_t, [c_char_p, c_size_t, POINTER(c_uint32)]),
    "sw_text_clean": (c_size_t, [c_char_p, c_size_t]),
    "sw_text_harmless": (c_bool, [c_uint32]),
    "sw_text_nearest": (c_char_p, [c_char_p, POINTER(c_char_p), c_size_t]),
}

# ---- loading ----------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_loaded: ctypes.CDLL | None = None


def _candidates() -> list[str]:
    """Where the library may be; names without a slash are for the system to find."""
    named = os.environ.get("SHARDWELD_LIBRARY")
    if named:
        return [os.path.join(named, SONAME) if os.path.isdir(named) else named]
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), SONAME)
    found = ctypes.util.find_library("shardweld")
    return [*([beside] if os.path.exists(beside) else []), SONAME, *([found] if found and found != SONAME else [])]


def _open() -> ctypes.CDLL:
    causes = []
    for path in _candidates():
        try:
            return ctypes.CDLL(path)
        except OSError as e:
            causes.append(str(e))
    raise ImportError(f"libshardweld cannot be loaded: {'; '.join(causes)}. {_cure()}")


def _cure() -> str:
    """What to do where it cannot be loaded: in the order in which people come to be here."""
    package = os.path.dirname(os.path.abspath(__file__))
    if os.environ.get("SHARDWELD_LIBRARY"):
        return f"SHARDWELD_LIBRARY must name {SONAME} of version {VERSION}, or the directory that holds it"
    program = shutil.which("shardweld")
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(program))), "lib") if program else ""
    for directory in (*_LOADER_S, beside, os.path.expanduser("~/.local/lib")):
        if directory and os.path.exists(os.path.join(directory, SONAME)):
            ldconfig = "Run 'ldconfig' as root, or set" if directory in _LOADER_S else "Set"
            return f"{directory} has it, but the loader has not been told. {ldconfig} SHARDWELD_LIBRARY={directory}"
    clone = os.path.dirname(os.path.dirname(package))
    if os.path.exists(os.path.join(clone, "include", "shardweld.h")):
        return f"This is a clone: run 'make' in {clone}, and set SHARDWELD_LIBRARY={os.path.join(clone, 'build')}"
    return f"Install a wheel of shardweld {VERSION}, which has it, or set SHARDWELD_LIBRARY to the path of {SONAME}"


# What the loader looks at by itself, once ldconfig has.
_LOADER_S = ("/usr/local/lib", "/usr/lib")


def _declare(library: ctypes.CDLL) -> None:
    try:
        library.sw_version.restype = c_char_p
        version = library.sw_version().decode()
        if version != VERSION:
            raise ImportError(
                f"{library._name} is version {version}, but this package needs version {VERSION}; install both from one tree"
            )
        for name, (restype, argtypes) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype = restype
            function.argtypes = argtypes
    except AttributeError as e:
        raise ImportError(f"{e}: no libshardweld of version {VERSION}; install library and package from one tree") from None


def lib() -> ctypes.CDLL:
    """The library, loaded and declared. Raises ImportError when there is none, or one of another version."""
    global _loaded
    with _lock:
        if _loaded is None:
            library = _open()
            _declare(library)
            _loaded = library
        return _loaded


# ---- values -----------------------------------------------------------------------------------------------------------


def encode(text: str) -> bytes:
    """A name or a word as C has it: UTF-8, whatever the locale is."""
    if not isinstance(text, str):
        raise UsageError(f"{text!r}: expected a str")
    try:
        return _without_nul(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is no Unicode text") from None


def encode_path(path: Any) -> bytes:
    """A path as C has it: str, bytes, os.PathLike; of a file:// URL what it stands for. Raises UsageError for another URL."""
    raw = _without_nul(os.fsencode(path))
    if isinstance(path, pathlib.PurePath) and re.match(rb"[A-Za-z][A-Za-z0-9+.-]*:/[^/]", raw) and not os.path.exists(path.parts[0]):
        raw = raw.replace(b":/", b":///" if raw.lower().startswith(b"file:") else b"://", 1)  # pathlib has taken it
    if b"://" not in raw:
        return raw
    text, status = ctypes.create_string_buffer(raw), Status()
    check(lib().sw_local_path(raw, text, ctypes.byref(status)), status)
    return text.value


def _without_nul(raw: bytes) -> bytes:
    if b"\0" in raw:
        raise UsageError(f"{raw!r}: expected no NUL byte")
    return raw


def decode(raw: bytes | None) -> str:
    """Text of the library."""
    return raw.decode("utf-8", "surrogateescape") if raw else ""


def text_array(texts: str | Iterable[str]) -> Any:
    """A NULL-terminated array of strings; keep it as long as C looks at it."""
    raw = [encode(t) for t in ([texts] if isinstance(texts, str) else texts)]
    return (c_char_p * (len(raw) + 1))(*raw, None)


def uint64_array(numbers: Sequence[int]) -> Any:
    """Sizes or offsets; None for no dimensions at all, which C takes as NULL."""
    return (c_uint64 * len(numbers))(*numbers) if len(numbers) else None


def int64_array(numbers: Sequence[int]) -> Any:
    """Strides in bytes."""
    return (c_int64 * len(numbers))(*numbers) if len(numbers) else None


def check(code: int, status: Status) -> None:
    """Raise what a call has said; nothing for SW_OK."""
    if code:
        raise status.error()


# ---- options ----------------------------------------------------------------------------------------------------------

# sw_option_kind
(FLAG, TEXT, CAST, PATH, SIZE, COUNT, LIST, PAIRS, CHOICE, RULES, NRULES, OWN) = range(1, 13)
_TYPES = {
    **dict.fromkeys((TEXT, CAST, PATH), c_char_p),
    **dict.fromkeys((SIZE, COUNT), c_uint64),
    **dict.fromkeys((LIST, PAIRS), POINTER(c_char_p)),
    **{FLAG: c_bool, CHOICE: c_int, RULES: POINTER(NameRule), NRULES: c_size_t, OWN: c_void_p},
}
_OWN = {"size": c_size_t, "warn": WARN, "progress": PROGRESS, "cancel": POINTER(c_int)}


@functools.lru_cache(maxsize=None)
def option_rows() -> dict[str, Option]:
    """The members of sw_options, in their order, as the library tells of them."""
    rows: dict[str, Option] = {}
    while row := lib().sw_option_at(len(rows)):
        rows[decode(row.contents.name)] = row.contents
    return rows


@functools.lru_cache(maxsize=None)
def options_struct() -> type[Structure]:
    """sw_options; zero is the default of each member."""
    fields = [(name, _OWN.get(name, _TYPES[row.kind])) for name, row in option_rows().items()]
    return type("Options", (Sized,), {"_fields_": fields})


def words_of(name: str) -> list[str]:
    """What an enum among the options may be, in its order."""
    return [decode(word) for word in itertools.takewhile(bool, option_rows()[name].words)]


# What the library calls the members that callers set, and the kinds of rules in name_rules.
_MEMBER = re.compile(r"sw_(?:options|sharding)\.([a-z_]+)|SW_NAME_([A-Z]+)")


def phrase(message: str) -> str:
    """A message of the library in Python's words: what is `sw_options.overwrite` to C is `overwrite=True` to those who call `weld()`."""

    def word(match: re.Match[str]) -> str:
        member, rule = match.groups()
        if rule:
            return f"name_rules '{rule.lower()}'"
        row = option_rows().get(member)
        return f"{member}=True" if row is not None and row.kind == FLAG else member

    return _MEMBER.sub(word, message)


def make_options(values: Mapping[str, Any], progress: Any = None) -> Any:
    """sw_options from Python values: `values` has members of the struct by name, None = default.

    include, exclude and hints are lists of strings, assign is "auto", "band" or "owner", name_rules a list of
    ("strip", prefix) and ("rename", before, to), sizes are bytes or text such as "4MiB", casts torch's dtypes or their names, block_size a
    number, two, or text such as "64x128".
    Warnings go to the log and `progress(done, total)` is called, on rank 0; what it raises is ignored. The struct keeps alive all it
    points to.
    """
    options = options_struct()()
    for name, value in values.items():
        row = option_rows().get(name)
        if row is None or row.kind in (NRULES, OWN):
            import difflib

            near = difflib.get_close_matches(name, [n for n, r in option_rows().items() if r.kind not in (NRULES, OWN)], 1)
            raise UsageError(f"there is no option '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        if value is not None:
            _set_option(options, name, row.kind, value)
    options.warn = WARN(lambda _user, text: logger.warning("%s", phrase(decode(text))))
    if progress is not None:
        options.progress = PROGRESS(lambda _user, done, total: progress(done, total))
    return options


def _set_option(options: Any, name: str, kind: int, value: Any) -> None:
    if kind == RULES:
        options.name_rules = (NameRule * len(value))(*(_name_rule(rule) for rule in value))
        options.nname_rules = len(value)
        return
    if kind == CHOICE:
        *others, last = words = words_of(name)
        if value not in words:
            raise UsageError(f"{name} is {value!r}, expected {', '.join(others)} or {last}")
        value = words.index(value)
    elif name == "block_size" and not isinstance(value, str):
        sizes = value if isinstance(value, (tuple, list)) else (value,)
        value = "x".join(str(operator.index(n)) for n in sizes).encode()
    elif kind in (TEXT, CAST, PATH):
        value = (encode if kind == TEXT else encode_path if kind == PATH else _encode_cast)(value)
    elif kind in (SIZE, COUNT):
        given, value = value, parse_size(value) if kind == SIZE and isinstance(value, str) else operator.index(value)
        if not 0 <= value < 1 << 64:
            raise UsageError(f"{name} is {given}, expected a number from 0")
    elif kind == FLAG:
        value = bool(value)
    else:
        value = text_array(value)
    setattr(options, name, value)


def _name_rule(rule: Sequence[str]) -> NameRule:
    kind, *texts = rule
    if kind == "strip" and len(texts) == 1:
        return NameRule(NAME_STRIP, encode(texts[0]), None)
    if kind == "rename" and len(texts) == 2:
        return NameRule(NAME_RENAME, encode(texts[0]), encode(texts[1]))
    raise UsageError(f"a rule for names is {rule!r}, expected ('strip', P) or ('rename', FROM, TO)")


def cast_name(dtype: Any) -> str | None:
    """A dtype to cast to, as the library has it: from torch.bfloat16, "torch.bfloat16", "BFloat16", "b-float-16"; None from "none" and None."""
    word = "none" if dtype is None else str(dtype).lower().removeprefix("torch.").replace("_", "").replace("-", "")
    if word in ("", "none"):
        return None
    return word if word in _CASTS else str(dtype)


# As safetensors' users, torch and NeMo Automodel spell them.
_CASTS = "bf16 fp16 fp32 fp64 bfloat16 float16 half float32 float float64 double".split()


def _encode_cast(dtype: Any) -> bytes | None:
    name = cast_name(dtype)
    return None if name is None else encode(name)


def index_map(mapping: Mapping[str, int]) -> str:
    """{FQN: number of its file, from 1} as the text that the library reads; numpy's numbers too."""
    if not isinstance(mapping, Mapping):
        raise UsageError(f"fqn_to_index_mapping is {mapping!r}, expected a dict")
    numbers = {}
    for fqn, index in mapping.items():
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise UsageError(f"the file index is {index!r}, expected a number from 1", tensor=fqn)
        numbers[checked_name(fqn)] = operator.index(index)
    return json_text(numbers)


def checked_name(fqn: str) -> str:
    """The key of a map by FQN; json would make text of other things too."""
    encode(fqn)
    return fqn


def json_text(value: Any) -> str:
    """The same text for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def parse_size(text: str) -> int:
    """Bytes from "64MiB", "5GB", "4096"."""
    size, status = c_uint64(), Status()
    check(lib().sw_size_parse(encode(text), ctypes.byref(size), ctypes.byref(status)), status)
    return size.value


# ---- interrupts -------------------------------------------------------------------------------------------------------


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[Any]:
    """A flag for `cancel` members that Ctrl-C sets while C runs, as SIGTERM and SIGHUP do, unless the program ignores them.

    Python looks at signals only between its own instructions, so a long call would not notice; and an exception, or the end of a process, in
    the middle of a collective would leave the other ranks behind, and what was staged. So the signal is held back until the call
    has ended, on all ranks together, and is delivered then. A second one of its kind kills, as it does the program. On other threads
    than the main one, and in programs that wait for signals by a file descriptor themselves (asyncio), the flag stays 0.
    """
    flag = c_int(0)
    handlers = {n: signal.getsignal(n) for n in _ENDS} if threading.current_thread() is threading.main_thread() else {}
    handlers = {n: handler for n, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
    if not handlers or _is_watched():
        yield ctypes.pointer(flag)
        return

    def hold(number: int, _frame: Any) -> None:
        """Python's part; _watch() has mostly seen it before."""
        flag.value = flag.value or number

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_watch, args=(reader, flag), daemon=True)
    watcher.start()
    for number in handlers:
        signal.signal(number, hold)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield ctypes.pointer(flag)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writer)
        watcher.join()
        os.close(reader)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if flag.value:
            signal.raise_signal(flag.value)


def _is_watched() -> bool:
    """Has the program a descriptor for signals of its own?"""
    before = signal.set_wakeup_fd(-1)
    if before != -1:
        signal.set_wakeup_fd(before)
    return before != -1


def _watch(reader: int, flag: Any) -> None:
    """Until the other end is closed. The first signal sets the flag; after the first of a kind the next one does what the system does
    by default."""
    system = ctypes.CDLL(None)
    system.signal.argtypes, system.signal.restype = [c_int, c_void_p], c_void_p
    while signals := os.read(reader, 64):
        for number in signals:
            if number in _ENDS:
                flag.value = flag.value or number
                system.signal(number, None)
