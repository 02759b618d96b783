"""Which part of a tensor a rank of a device mesh holds: DTensor's rule, in plain numbers and without torch.

A mesh dimension of n ranks cuts a tensor dimension as torch.chunk does, in pieces of ceil(size / n), so that the last ones may be short or
empty; mesh dimensions that cut the same one nest, the first outermost. A strided cut (torch's _StridedShard) may leave a rank with rows that do
not lie side by side: such a part is several boxes, and they are told apart here.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ._errors import UsageError


class Piece(NamedTuple):
    """A box of a rank's part: where it lies in the whole tensor, how large it is, where it begins in the part. All in elements."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    at: tuple[int, ...]


class Part(NamedTuple):
    """What one rank holds of a tensor: its shape in memory, and the boxes that it consists of (one, but for strided cuts)."""

    shape: tuple[int, ...]
    pieces: list[Piece]


def parse_placement(value: Any) -> tuple[int, int] | None:
    """One placement: a tensor dimension (int), "shard0", "shard(0)"; None or "replicate"; or one of torch's objects.

    Returns:
        The dimension that is cut and the split factor (1 for an ordinary cut); None for replicas.

    Raises:
        UsageError: anything else, among it torch's Partial: sums that are pending are no values yet
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value, 1
    if isinstance(value, str):
        if value.lower() in ("replicate", "replicate()"):
            return None
        found = re.fullmatch(r"shard(?:(\d+)|\((\d+)\))", value.lower())
        if found:
            return int(found[1] or found[2]), 1
    elif hasattr(value, "is_partial") and not value.is_partial():
        if value.is_replicate():
            return None
        if hasattr(value, "dim"):
            return value.dim, getattr(value, "split_factor", 1)
    raise UsageError(f"placement {value!r}: expected a dimension, 'shardD', 'replicate' or None, or torch's Shard or Replicate")


def choose_placements(placements: Any, name: str, mesh_dims: int) -> list[tuple[int, int] | None]:
    """Those of one tensor, one for each mesh dimension. A mapping {glob: placements} is looked through from the front.

    None is torch's usual choice: Shard(0) along the first mesh dimension, replicas along the others.
    """
    if isinstance(placements, Mapping):
        placements = next((p for glob, p in placements.items() if fnmatch.fnmatchcase(name, glob)), None)
    if placements is None:
        placements = [0] + [None] * (mesh_dims - 1)
    elif isinstance(placements, (str, int)) or hasattr(placements, "is_partial"):
        placements = [placements]
    if len(placements) != mesh_dims:
        raise UsageError(f"{len(placements)} placements for a mesh of {mesh_dims} dimensions", tensor=name)
    return [parse_placement(p) for p in placements]


def fit(cuts: Sequence[tuple[int, int] | None], ndim: int) -> list[tuple[int, int] | None]:
    """The same for a tensor of so many dimensions: negative ones count from the end, and along one that it lacks it is replicated."""
    out: list[tuple[int, int] | None] = []
    for cut in cuts:
        dim = cut[0] + ndim if cut and cut[0] < 0 else cut[0] if cut else -1
        out.append((dim, cut[1]) if cut and 0 <= dim < ndim else None)
    return out


def coordinate_of(rank: int, mesh: Sequence[int]) -> tuple[int, ...]:
    """Where a rank stands in a mesh that is filled in rank order, the last dimension fastest."""
    if not 0 <= rank < prod(mesh):
        raise UsageError(f"rank {rank} is not in a mesh of {prod(mesh)} ranks")
    out = []
    for n in reversed(mesh):
        out.append(rank % n)
        rank //= n
    return tuple(reversed(out))


def chunk(size: int, parts: int, i: int) -> tuple[int, int]:
    """Begin and end of piece i of `parts`."""
    step = -(-size // parts)
    return min(size, step * i), min(size, step * (i + 1))


def _take(runs: list[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """Elements [begin, end) of runs (first, count) that stand one after the other; neighbours are joined."""
    out: list[tuple[int, int]] = []
    at = 0
    for first, count in runs:
        lo, hi = max(begin, at), min(end, at + count)
        if lo < hi:
            start = first + lo - at
            if out and sum(out[-1]) == start:
                out[-1] = (out[-1][0], out[-1][1] + hi - lo)
            else:
                out.append((start, hi - lo))
        at += count
    return out


def _cut(runs: list[tuple[int, int]], parts: int, i: int, factor: int) -> list[tuple[int, int]]:
    """Piece i of `parts` of each of `factor` equal sections."""
    size = sum(count for _, count in runs)
    out: list[tuple[int, int]] = []
    for section in range(factor):
        begin, end = chunk(size, factor, section)
        lo, hi = chunk(end - begin, parts, i)
        out += _take(runs, begin + lo, begin + hi)
    return _take(out, 0, size)


def part_of(
    shape: Sequence[int], mesh: Sequence[int], coordinate: Sequence[int], cuts: Sequence[tuple[int, int] | None]
) -> Part:
    """What the rank at `coordinate` holds. An empty part is one empty box at the end of the dimension, as torch has it."""
    runs = [[(0, size)] if size else [] for size in shape]
    for parts, i, cut in zip(mesh, coordinate, cuts):
        if cut:
            runs[cut[0]] = _cut(runs[cut[0]], parts, i, cut[1])
    along = []
    for size, spans in zip(shape, runs):
        at, placed = 0, []
        for first, count in spans or [(size, 0)]:
            placed.append((first, count, at))
            at += count
        along.append(placed)
    pieces = [Piece(*(tuple(s[k] for s in spans) for k in range(3))) for spans in product(*along)]
    return Part(tuple(sum(count for _, count in spans) for spans in runs), pieces)
