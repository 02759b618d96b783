"""The oracle of tests/e2e is right: it writes what the real libraries write, byte for byte."""

import ctypes
import os

import numpy as np
import oracle
import pytest
import torch
from safetensors import TensorSpec, safe_open, serialize
from safetensors.torch import _TYPES, load_file, save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset

TYPES = {**_TYPES, "F8_E8M0": torch.float8_e8m0fnu}
SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 5), (0,), (0, 4), (3, 0, 2), (1,) * 32]
NAMES = ["a", "B", "a.b", "é", "e", "\U0001f600", "\uffff", "q\"uo\\te", "tab\t\n\r\b\f\x01\x1f\x7f", "a/b", "", "a b"]


def as_torch(tensor):
    raw = np.frombuffer(tensor.data, dtype=np.uint8).copy()
    if not len(raw):
        return torch.empty(tensor.shape, dtype=TYPES[tensor.dtype])
    return torch.from_numpy(raw).view(TYPES[tensor.dtype]).reshape(tensor.shape)


def saved(tensors, tmp_path):
    path = tmp_path / "reference.safetensors"
    save_file({n: as_torch(t) for n, t in tensors.items()}, path, metadata={"format": "pt"})
    return path.read_bytes()


@pytest.mark.parametrize("dtype", sorted(TYPES))
def test_every_dtype(dtype, tmp_path):
    rng = np.random.default_rng(1)
    tensors = {f"t{i}": oracle.random_tensor(rng, dtype, s) for i, s in enumerate(SHAPES)}
    assert oracle.serialize(tensors) == saved(tensors, tmp_path)


def test_all_dtypes_and_names_in_one_file(tmp_path):
    rng = np.random.default_rng(2)
    tensors = {}
    for i, name in enumerate(NAMES):
        for dtype in rng.permutation(sorted(TYPES)):
            tensors[f"{name}{i % 3}{dtype[:2]}{dtype}"] = oracle.random_tensor(rng, dtype, (i % 4, 3))
        tensors[name] = oracle.random_tensor(rng, "F32", (2,))
    assert oracle.serialize(tensors) == saved(tensors, tmp_path)


def test_f4_beside_the_others():
    """torch has no F4 that save_file takes with an odd shape; the serializer below it does."""
    keep, specs, tensors = [], {}, {}
    for name, dtype, word, size in (
        ("f4", "F4", "float4_e2m1fn_x2", 6),
        ("bool", "BOOL", "bool", 6),
        ("u8", "U8", "uint8", 6),
        ("e8m0", "F8_E8M0", "float8_e8m0fnu", 6),
    ):
        buf = ctypes.create_string_buffer(bytes(range(size)), size)
        keep.append(buf)
        specs[name] = TensorSpec(dtype=word, shape=[2, 3], data_ptr=ctypes.addressof(buf), data_len=size)
        tensors[name] = oracle.Tensor(dtype, (2, 6) if dtype == "F4" else (2, 3), bytes(range(size)))
    assert serialize(specs, {"format": "pt"}) == oracle.serialize(tensors)


@pytest.mark.parametrize("dtype", sorted(oracle.DTYPES))
def test_the_reference_reads_every_dtype(dtype, tmp_path):
    rng = np.random.default_rng(3)
    oracle.write(str(tmp_path / "x.safetensors"), oracle.serialize({"a": oracle.random_tensor(rng, dtype, (4, 8))}))
    with safe_open(tmp_path / "x.safetensors", "np") as f:
        assert list(f.keys()) == ["a"]
        assert f.get_slice("a").get_dtype() == dtype and f.get_slice("a").get_shape() == [4, 8]


@pytest.mark.parametrize("seed", range(60))
def test_boxes_are_where_torch_puts_them(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(0, 9, rng.integers(1, 4)))
    sizes = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
    places = [None if rng.random() < 0.25 else int(rng.integers(len(shape))) for _ in sizes]
    torch_places = [Replicate() if p is None else Shard(p) for p in places]
    for rank, box in enumerate(oracle.boxes_of(shape, sizes, places)):
        at = [int(i) for i in np.unravel_index(rank, sizes)]
        local, offset = _compute_local_shape_and_global_offset(shape, sizes, lambda d: at[d], torch_places)
        assert tuple(local) == box.shape
        assert tuple(offset) == box.offsets


def test_shards_are_read_by_torch(tmp_path):
    rng = np.random.default_rng(4)
    tensors = {"a": oracle.random_tensor(rng, "F32", (6, 10)), "b": oracle.random_tensor(rng, "BF16", (9,))}
    boxes = {n: oracle.boxes_of(t.shape, (4,), (0,)) for n, t in tensors.items()}
    boxes["a"] = oracle.boxes_of((6, 10), (2, 2), (0, 1))
    oracle.write_sharded(str(tmp_path / "in"), tensors, boxes)
    state = {n: torch.zeros(t.shape, dtype=TYPES[t.dtype]) for n, t in tensors.items()}
    torch.distributed.checkpoint.load(state, storage_reader=HuggingFaceStorageReader(str(tmp_path / "in")), no_dist=True)
    for name, t in tensors.items():
        assert state[name].view(torch.uint8).numpy().tobytes() == t.data


def test_a_plain_checkpoint_is_read_by_safetensors(tmp_path):
    rng = np.random.default_rng(5)
    tensors = {"a": oracle.random_tensor(rng, "I32", (6, 10)), "b": oracle.random_tensor(rng, "I64", ())}
    oracle.write_plain(str(tmp_path), tensors, {"a": oracle.SINGLE, "b": oracle.SINGLE})
    got = load_file(os.path.join(tmp_path, oracle.SINGLE))
    assert {n: t.numpy().tobytes() for n, t in got.items()} == {n: t.data for n, t in tensors.items()}


def test_split_by_size_is_huggingface_hubs(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    rng = np.random.default_rng(6)
    for _ in range(50):
        tensors = {f"t.{i}": oracle.random_tensor(rng, "U8", (int(rng.integers(0, 60)),)) for i in range(20)}
        state = {n: torch.empty(t.shape, dtype=torch.uint8) for n, t in tensors.items()}
        limit = int(rng.integers(20, 400))
        split = hub.split_torch_state_dict_into_shards(state, max_shard_size=limit)
        files, index = oracle.by_size(tensors, limit, order=list(state))
        assert split.tensor_to_filename == files
        assert split.is_sharded == (index is not None)
