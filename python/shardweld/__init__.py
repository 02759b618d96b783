"""shardweld: read, write and weld sharded safetensors checkpoints, in parallel.

    from shardweld import consolidate_safetensors_files_on_every_rank
    consolidate_safetensors_files_on_every_rank("ckpt/sharded", "ckpt", fqn_to_index_mapping)

Everything is done by libshardweld, which SHARDWELD_LIBRARY may name. Importing the package loads neither it nor torch, numpy or MPI.
"""

from __future__ import annotations

import importlib
from typing import Any

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

__version__ = "0.1.0"

# Loaded at their first use: name -> module.
_LATER = {
    "Box": "io",
    "Checkpoint": "checkpoint",
    "Comm": "_comm",
    "WeldResult": "consolidate",
    "consolidate_safetensors_files": "consolidate",
    "consolidate_safetensors_files_on_every_rank": "consolidate",
    "install": "_install",
    "load": "io",
    "reshard": "consolidate",
    "save": "io",
    "uninstall": "_install",
    "weld": "consolidate",
}

__all__ = [
    "Cancelled",
    "Code",
    "CommError",
    "DifferenceError",
    "Error",
    "InputError",
    "MissingError",
    "OutOfMemory",
    "ShardweldError",
    "SystemFailure",
    "UsageError",
    *_LATER,
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'shardweld' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
