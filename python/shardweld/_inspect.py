"""What is in a checkpoint and what is wrong with it: `shardweld inspect` as a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._errors import UsageError
from ._program import draw
from ._show import count, lines_html, picture_html, size_text, table_html
from .checkpoint import Checkpoint, CheckpointInfo, FileInfo, Finding, TensorInfo

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import CommLike, OpenOptions, PathLike

__all__ = ["Inspection", "inspect"]

_ROWS = 24  # that are shown


class Inspection:
    """A checkpoint that has been looked at; it is true where nothing is wrong. A notebook shows the picture of it.

    Attributes:
        checkpoint: it is open
        info: of all of it
        findings: all that is wrong, by file, then tensor
        files, tensors: each of them; tensors by name
        values: the names of what was saved beside tensors
    """

    def __init__(self, checkpoint: Checkpoint, options: OpenOptions) -> None:
        self.checkpoint = checkpoint
        self.info: CheckpointInfo = checkpoint.info
        self.findings: list[Finding] = checkpoint.findings()
        self._options = options

    @property
    def ok(self) -> bool:
        """Is nothing wrong?"""
        return not self.findings

    def __bool__(self) -> bool:
        return self.ok

    @property
    def files(self) -> list[FileInfo]:
        return self.checkpoint.files()

    @property
    def tensors(self) -> list[TensorInfo]:
        return [self.checkpoint.tensor(name) for name in self.checkpoint]

    @property
    def values(self) -> list[str]:
        return self.checkpoint.other_values()

    def svg(self, tensors: str | Sequence[str] = ()) -> str:
        """The picture of how the shards tile the tensors, an SVG document, which the program draws. Local.

        Args:
            tensors: globs of their names; none: the first ones that are sharded

        Raises:
            FileNotFoundError: the program is not there
            UsageError: no tensor matches; what else the program says
        """
        globs = [tensors] if isinstance(tensors, str) else tensors
        return draw(self.checkpoint.path, globs, self._options.get("boxes"), bool(self._options.get("boxes_anywhere")))

    def __repr__(self) -> str:
        info = self.info
        files = f"{info.kind}, {count(info.files, 'file')} ({size_text(info.file_bytes)}){f', shards {info.shards}' if info.shards else ''}"
        tensors = f"{count(info.tensors, 'tensor')}, {count(info.parameters, 'parameter')}, {size_text(info.nbytes)}"
        says = "nothing is wrong" if self.ok else count(len(self.findings), "finding")
        lines = [f"  {finding}" for finding in self.findings[:_ROWS]]
        more = [f"  and {len(self.findings) - _ROWS:,} more"] if len(self.findings) > _ROWS else []
        return "\n".join([f"<shardweld.Inspection {self.checkpoint.path!r}: {files}; {tensors}; {says}>", *lines, *more])

    def _repr_html_(self) -> str:
        head = lines_html(repr(self))
        try:
            return head + picture_html(self.svg(), f"how the shards of {self.checkpoint.path} tile its tensors")
        except (OSError, UsageError):  # without the picture: names and shapes
            names = self.checkpoint.keys()
            shown = [self.checkpoint.tensor(name) for name in names[:_ROWS]]
            rows = [(t.name, t.dtype, list(t.shape), t.sharding) for t in shown]
            return head + table_html(("tensor", "dtype", "shape", "sharding"), rows, len(names) - _ROWS)


def inspect(path: PathLike, *, comm: CommLike = "self", **options: Unpack[OpenOptions]) -> Inspection:
    """Look at a checkpoint, sharded or consolidated, or at one safetensors file: what is in it, and all that is wrong with it. Headers are
    read, and no data.

        >>> import numpy, shardweld
        >>> shardweld.save("step-1000", {"w": numpy.ones((6, 4), "float32"), "step": 7}, consolidated=False)
        >>> inspection = shardweld.inspect("step-1000")
        >>> print(inspection)
        <shardweld.Inspection 'step-1000': sharded, 1 file (448 B), shards 1; 2 tensors, 25 parameters, 104 B; nothing is wrong>
        >>> [(t.name, t.dtype, t.shape) for t in inspection.tensors]
        [('step', 'I64', ()), ('w', 'F32', (6, 4))]

    Args:
        path: a directory or a file
        comm: see Checkpoint
        options: see Checkpoint and shardweld.options.OpenOptions. Without others of them everything is looked at, as by the program, and
            what is wrong is no error

    Returns:
        What was found: true where nothing is wrong. In a notebook it shows as the picture of how the shards tile the tensors.

    Raises:
        MissingError: there is nothing
        SystemFailure, OutOfMemory: the system failed
    """
    options.setdefault("tolerant", True)
    options.setdefault("everything", True)
    return Inspection(Checkpoint(path, comm=comm, **options), options)
