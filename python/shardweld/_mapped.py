"""Tensors that stay where they are: arrays over a mapped file. Opening a checkpoint of any size so takes no time and no memory; what is looked
at is read then. Writing to such an array makes a copy of the page, and the file stays as it is."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Any

from . import _arrays as arrays
from .checkpoint import Checkpoint


class Mapped:
    """The files of one checkpoint, each mapped once, when the first tensor of it is asked for. The arrays keep them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._lone = checkpoint.info.kind == "file"
        self._files: dict[str, mmap.mmap | None] = {}

    def array(self, framework: str, name: str, offsets: Sequence[int] | None, shape: Sequence[int]) -> Any:
        """The box of a tensor as it is saved, whole where offsets is None. None where it has to be put together or moved: several boxes make
        the tensor up, its rows do not lie one behind the other, or it is empty; or where there is no such box, which a read will tell."""
        dtype, whole = self._checkpoint.saved(name)
        size = arrays.BITS[dtype] // 8
        boxes = self._checkpoint.boxes(name)
        first = next(iter(boxes), None)
        if first is None or first.shape != whole or first.strides is not None or not first.nbytes:
            return None
        inside = offsets is None or len(offsets) == len(shape) == len(whole) and all(o + n <= w for o, n, w in zip(offsets, shape, whole))
        if not inside or (offsets is not None and not size) or first.at % max(size, 1):
            return None
        file = self._file(self._checkpoint.path if self._lone else os.path.join(self._checkpoint.path, first.file))
        if file is None or len(file) < first.at + first.nbytes:
            return None
        array = arrays.over(framework, file, first.at, dtype, whole)
        return array if not offsets else array[tuple(slice(o, o + n) for o, n in zip(offsets, shape))]

    def _file(self, path: str) -> mmap.mmap | None:
        if path not in self._files:
            try:
                with open(path, "rb") as f:
                    self._files[path] = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError):  # a file system that cannot do it; what else is wrong a read will tell
                self._files[path] = None
        return self._files[path]
