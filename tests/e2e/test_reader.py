"""Boxes of checkpoints that real torch wrote (tests/golden), read as the ranks of any other mesh would: each must hold what the full
tensors hold there. $SHARDWELD_BUILD/tests/reader_check is the library's reader as a filter."""

import json
import os
from itertools import product
from math import prod

import oracle
import pytest
from conftest import SEED
from reading import read, refused
from runner import HERE

GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
CASES = sorted(n for n in os.listdir(GOLDEN) if os.path.isdir(os.path.join(GOLDEN, n, "out")))
MESHES = [(1,), (2,), (3,), (4,), (2, 2), (3, 2), (2, 1, 2)]


def parse(path):
    """{fqn: Tensor} of one file of whole tensors."""
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(size)), f.read()
    return {n: oracle.Tensor(e["dtype"], tuple(e["shape"]), data[slice(*e["data_offsets"])]) for n, e in header.items() if n != "__metadata__"}


def full_tensors(case):
    out, top = {}, os.path.join(GOLDEN, case, "out")
    for folder, _, files in os.walk(top):
        for name in files:
            out |= parse(os.path.join(folder, name)) if name.endswith(".safetensors") else {}
    return out


def every_part(tensors, mesh):
    """(FQN, Box) of each rank, for each way in which the mesh may shard or replicate."""
    for name, t in tensors.items():
        dims = [None, *range(min(len(t.shape), 3))] if oracle.DTYPES[t.dtype] % 8 == 0 else [None]
        for placements in product(dims, repeat=len(mesh)):
            for box in dict.fromkeys(oracle.boxes_of(t.shape, mesh, placements)):
                yield name, box


@pytest.mark.parametrize("case", CASES)
def test_any_mesh(case):
    tensors, path = full_tensors(case), os.path.join(GOLDEN, case, "in")
    for i, mesh in enumerate(MESHES):
        wanted = list(dict.fromkeys(every_part(tensors, mesh)))
        asked = [{"name": n, "offsets": b.offsets, "shape": b.shape} for n, b in wanted]
        options = {"threads": 1 + i % 3, "buffer": (0, 4096)[i % 2], "map": (i + SEED) % 2}
        for (name, box), got in zip(wanted, read(path, asked, **options), strict=True):
            full = tensors[name]
            assert got == (name, full.dtype, box.shape, oracle.cut(full, box)), f"{mesh} {name} {box} {options}"


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("case", CASES)
def test_into_an_empty_dictionary(case, threads):
    """All tensors, with the shapes that the files tell; of what was welded too."""
    want = [(n, t.dtype, t.shape, t.data) for n, t in sorted(full_tensors(case).items(), key=lambda item: item[0].encode())]
    for which in ("in", "out"):
        assert read(os.path.join(GOLDEN, case, which), threads=threads) == want


def test_bad_requests():
    path = os.path.join(GOLDEN, "rows", "in")
    name, t = max(full_tensors("rows").items(), key=lambda item: len(item[1].shape))
    whole = {"name": name, "offsets": [0] * len(t.shape), "shape": list(t.shape)}
    outside = {**whole, "offsets": [1, *whole["offsets"][1:]]}
    assert prod(t.shape) > 1
    refused(path, [whole, outside], 2, name, "is not inside its shape")
    refused(path, [{**whole, "offsets": [2**63 - 1, *whole["offsets"][1:]]}], 2, name, "is not inside its shape")
    refused(path, [whole, {"name": "nobody"}], 2, "nobody", "no such tensor")
    refused(path, [{**whole, "dtype": "F4"}], 2, name, "cannot be read as F4")
    refused(path, [{**whole, "dtype": "float3"}], 2, name, "'float3' is not a dtype")
    refused(path + "-not-there", [], 3, "no such file")
