"""Our consolidation in place of torch's and NeMo Automodel's, in all modules that hold theirs.

transformers has none of its own: it takes torch's when it needs it.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install", "uninstall"]

_HOMES = (
    "torch.distributed.checkpoint._consolidate_hf_safetensors",
    "nemo_automodel.components.checkpoint._backports.consolidate_hf_safetensors",
)
_NAMES = ("consolidate_safetensors_files", "consolidate_safetensors_files_on_every_rank")

_lock = threading.RLock()
# What stands for what: ours for theirs. They live on, so that nothing else can be taken for one of them.
_stand_ins: dict[Callable[..., Any], Callable[..., Any]] = {}


def install() -> dict[str, Callable[..., Any]]:
    """From now on torch's and NeMo Automodel's consolidate_safetensors_files and consolidate_safetensors_files_on_every_rank are ours.

    They are replaced where they are defined and in the globals of every module that has imported them, under whatever name; modules that
    are imported later, those that define them too, get ours. Out of reach are references that lie elsewhere (an attribute of a class, a
    default argument, functools.partial) and other processes: a spawned one has to call this itself. It imports nothing and
    may be called again.

        >>> import shardweld
        >>> replaced = shardweld.install()
        >>> all(callable(theirs) for theirs in replaced.values())
        True
        >>> shardweld.uninstall()

    Returns:
        {"module.name": the function that was there} of what this call has replaced
    """
    with _lock:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        for home in _HOMES:
            if home in sys.modules:
                _learn(sys.modules[home])
        return _swap(_stand_ins)


def uninstall() -> None:
    """Undo `install()`, also in modules that were imported since.

    >>> import shardweld
    >>> shardweld.uninstall()
    """
    with _lock:
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        _swap({ours: theirs for theirs, ours in _stand_ins.items()})


def _learn(home: ModuleType) -> None:
    """Their functions, and what will stand for them."""
    for name in _NAMES:
        theirs = vars(home).get(name)
        if callable(theirs) and theirs not in _stand_ins and theirs not in _stand_ins.values():
            _stand_ins[theirs] = _stand_in(name, theirs)


def _stand_in(name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Not our function itself: who has imported that from us keeps it."""

    @functools.wraps(theirs)
    def ours(*args: Any, **more: Any) -> Any:
        from . import _dropin

        return getattr(_dropin, name)(*args, **more)

    return ours


def _swap(instead: dict[Callable[..., Any], Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """In the globals of all modules."""
    found, ids = {}, {id(function): function for function in instead}
    for where, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or module.__name__ == __name__:
            continue
        for name, value in list(vars(module).items()):
            if id(value) in ids:
                found[f"{where}.{name}"] = value
                setattr(module, name, instead[value])
    return found


class _Finder(MetaPathFinder):
    """Finds nothing by itself: it lets the others find a module that defines the functions, and sees to it once it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _HOMES:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Watched(spec.loader)
        return spec


class _Watched(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        with _lock:
            if _finder in sys.meta_path:
                _learn(module)
                _swap(_stand_ins)


_finder = _Finder()
