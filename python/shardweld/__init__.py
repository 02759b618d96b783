"""shardweld: read, write and weld sharded safetensors checkpoints, in parallel.

    from shardweld import consolidate_safetensors_files_on_every_rank
    consolidate_safetensors_files_on_every_rank("ckpt/sharded", "ckpt", fqn_to_index_mapping)

Everything is done by libshardweld, which SHARDWELD_LIBRARY may name. Importing the package loads neither it nor torch, numpy or MPI.
"""

from __future__ import annotations

import typing as _typing

from ._errors import (
    Cancelled,
    Code,
    CommError,
    DifferenceError,
    InputError,
    MissingError,
    OutOfMemory,
    ShardweldError,
    SystemFailure,
    UsageError,
)

Error = ShardweldError

__version__ = "0.2.0"

__all__ = [
    "Box",
    "Cancelled",
    "Checkpoint",
    "Code",
    "Comm",
    "CommError",
    "DifferenceError",
    "Error",
    "InputError",
    "Inspection",
    "MissingError",
    "OutOfMemory",
    "ShardweldError",
    "SystemFailure",
    "UsageError",
    "Verification",
    "WeldResult",
    "check",
    "consolidate",
    "consolidate_safetensors_files",
    "consolidate_safetensors_files_on_every_rank",
    "diff",
    "inspect",
    "install",
    "load",
    "reshard",
    "save",
    "uninstall",
    "verify",
    "weld",
]

# Those of other modules are loaded at their first use: name -> module. What they are is told to type checkers and editors, which run nothing.
_LATER = {
    "Box": "io",
    "Checkpoint": "checkpoint",
    "Comm": "_comm",
    "Inspection": "_inspect",
    "Verification": "_commands",
    "WeldResult": "_commands",
    "check": "_commands",
    "consolidate": "_commands",
    "consolidate_safetensors_files": "_dropin",
    "consolidate_safetensors_files_on_every_rank": "_dropin",
    "diff": "_commands",
    "inspect": "_inspect",
    "install": "_install",
    "load": "io",
    "reshard": "_commands",
    "save": "io",
    "uninstall": "_install",
    "verify": "_commands",
    "weld": "_commands",
}

if _typing.TYPE_CHECKING:
    from ._comm import Comm
    from ._commands import Verification, WeldResult, check, consolidate, diff, reshard, verify, weld
    from ._dropin import consolidate_safetensors_files, consolidate_safetensors_files_on_every_rank
    from ._inspect import Inspection, inspect
    from ._install import install, uninstall
    from .checkpoint import Checkpoint
    from .io import Box, load, save
else:

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module 'shardweld' has no attribute '{name}'")
        import importlib

        value = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
