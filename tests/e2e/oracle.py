"""The reference: sharded checkpoints made and welded with bytes and numpy alone.

A tensor is (dtype name, shape, bytes). `serialize` writes what the reference safetensors library writes,
byte for byte (tests/torch/test_oracle.py proves it); `write_sharded` writes what torch's DCP writes with
HuggingFaceStorageWriter(save_distributed=True): one file for each rank and model file, with the boxes that
the rank holds. What the program makes of the second must be the first.
"""

import json
import os
import struct
from collections import namedtuple
from itertools import product
from math import prod

import numpy as np

# Every dtype of the format, in the order in which files hold them, with its width in bits.
DTYPES = {
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F32": 32, "U32": 32, "I32": 32, "BF16": 16, "F16": 16,
    "U16": 16, "I16": 16, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "F8_E8M0": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "I8": 8, "U8": 8, "F6_E3M2": 6, "F6_E2M3": 6, "F4": 4, "BOOL": 8,
}  # fmt: skip
RANK_OF_DTYPE = {name: i for i, name in enumerate(DTYPES)}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

Tensor = namedtuple("Tensor", "dtype shape data")
Box = namedtuple("Box", "offsets shape")


# ---- tensors -------------------------------------------------------------------------------------


def nbytes(dtype, shape):
    bits = prod(shape) * DTYPES[dtype]
    assert bits % 8 == 0, (dtype, shape)
    return bits // 8


def random_tensor(rng, dtype, shape):
    """Any bytes at all: the program copies and never interprets them."""
    shape = tuple(int(n) for n in shape)
    return Tensor(dtype, shape, rng.bytes(nbytes(dtype, shape)))


def cut(tensor, box):
    """The bytes of a box, in the order of a tensor of the box's shape."""
    dtype, shape, data = tensor
    bits = DTYPES[dtype]
    if not shape or prod(box.shape) == prod(shape):
        return data if prod(box.shape) else b""
    if prod(box.shape) == 0:
        return b""
    if bits % 8:  # elements of less than a byte: only rows that lie together
        inner = prod(shape[1:])
        assert tuple(box.shape[1:]) == tuple(shape[1:]), "sub-byte tensors are cut along dimension 0 only"
        begin, end = box.offsets[0] * inner * bits, (box.offsets[0] + box.shape[0]) * inner * bits
        assert begin % 8 == 0 and end % 8 == 0
        return data[begin // 8 : end // 8]
    array = np.frombuffer(data, dtype=f"V{bits // 8}").reshape(shape)  # numpy 1 has no more than 32 dimensions
    where = tuple(slice(o, o + n) for o, n in zip(box.offsets, box.shape))
    return array[where].tobytes()


# ---- the reference serializer --------------------------------------------------------------------


def file_order(names_and_dtypes):
    """The order of tensors in a file: dtype, then name by bytes."""
    return sorted(names_and_dtypes, key=lambda e: (RANK_OF_DTYPE[e[1]], e[0].encode()))


def header(entries, metadata):
    """Length, JSON and padding. entries: (name, dtype, shape, bytes) in the order of the data."""
    text = {"__metadata__": metadata} if metadata is not None else {}
    at = 0
    for name, dtype, shape, size in entries:
        text[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(text, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def serialize(tensors, metadata={"format": "pt"}):  # noqa: B006 (never changed)
    """The bytes of safetensors.torch.save_file(tensors, path, metadata=metadata)."""
    order = file_order([(name, t.dtype) for name, t in tensors.items()])
    entries = [(n, d, tensors[n].shape, len(tensors[n].data)) for n, d in order]
    return header(entries, metadata) + b"".join(tensors[n].data for n, _ in order)


def index_text(tensors, weight_map):
    """The text of model.safetensors.index.json."""
    parameters = sum(prod(t.shape) for t in tensors.values())
    size = sum(len(t.data) for t in tensors.values())
    index = {"metadata": {"total_parameters": parameters, "total_size": size}, "weight_map": weight_map}
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def consolidated(tensors, files, index=INDEX):
    """{name: bytes} of a whole consolidated checkpoint. files: {fqn: file name}; index None = none."""
    out = {}
    for name in set(files.values()):
        out[name] = serialize({n: t for n, t in tensors.items() if files[n] == name})
    if index is not None:
        out[index] = index_text(tensors, files).encode()
    return out


def model_name(j, n):
    return f"model-{j:05}-of-{n:05}.safetensors"


def shard_name(i, j=1, n=1):
    return f"shard-{i:05}-model-{j:05}-of-{n:05}.safetensors"


def numbered(numbers):
    """{fqn: file name} of {fqn: file number}, as torch names them: of the largest number."""
    top = max(numbers.values())
    return {fqn: model_name(j, top) for fqn, j in numbers.items()}


def natural_key(name):
    """Runs of digits by value, the rest by bytes, ties by bytes."""
    raw, key, i = name.encode(), [], 0
    while i < len(raw):
        if raw[i : i + 1].isdigit():
            end = i
            while end < len(raw) and raw[end : end + 1].isdigit():
                end += 1
            key.append((48, int(raw[i:end])))  # a run of digits stands where its first digit would
            i = end
        else:
            key.append((raw[i] if raw[i] < 48 else raw[i] + 1, 0))
            i += 1
    return key, raw


def by_size(tensors, limit, order=None):
    """{fqn: file name} as huggingface_hub splits, and whether there is an index."""
    done, now, size = [], [], 0
    for name in order or sorted(tensors, key=natural_key):
        n = len(tensors[name].data)
        if n > limit:
            done.append([name])
            continue
        if size + n > limit:
            done.append(now)
            now, size = [], 0
        now.append(name)
        size += n
    if now:
        done.append(now)
    if len(done) == 1:
        return {name: SINGLE for name in done[0]}, None
    return {name: model_name(j, len(done)) for j, names in enumerate(done, 1) for name in names}, INDEX


# ---- sharding ------------------------------------------------------------------------------------


def chunk(begin, size, parts, part):
    """torch.chunk: pieces of ceil(size / parts); (begin, size) of one of them, size 0 when there is none left."""
    each = -(-size // parts) if size else 0
    lo, hi = min(part * each, size), min((part + 1) * each, size)
    return begin + lo, hi - lo


def boxes_of(shape, mesh, placements):
    """The box of each rank of a mesh, in rank order, as torch's DTensor places it.

    placements: for each mesh dimension the tensor dimension it shards, or None for a replica. An empty box
    has the dimension's full size as its offset, as torch writes it.
    """
    out = []
    for at in product(*(range(n) for n in mesh)):
        offsets, sizes = [0] * len(shape), list(shape)
        for dim, place in enumerate(placements):
            if place is not None:
                offsets[place], sizes[place] = chunk(offsets[place], sizes[place], mesh[dim], at[dim])
        sharded = {p for p in placements if p is not None}
        offsets = [shape[d] if d in sharded and sizes[d] == 0 else offsets[d] for d in range(len(shape))]
        out.append(Box(tuple(offsets), tuple(sizes)))
    return out


def whole(shape):
    return Box((0,) * len(shape), tuple(shape))


def shard_metadata(offsets, **more):
    info = {name: {"saved_offsets": list(o)} for name, o in offsets.items()}
    return {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "format": "pt", **more}


def listed(names):
    """What a shard file that we write says of all files of its set: "MODEL:FROM-TO" words."""
    runs = []
    for model, shard in sorted((int(n.split("-")[3]), int(n.split("-")[1])) for n in names):
        if runs and runs[-1][0] == model and runs[-1][2] == shard - 1:
            runs[-1][2] = shard
        else:
            runs.append([model, shard, shard])
    return " ".join(f"{model}:{first}-{last}" for model, first, last in runs)


def own_metadata(boxes, names):
    """shard_metadata() of our own files: full shapes, and the list of the set. boxes: {fqn: (full tensor, Box)}."""
    info = {name: {"saved_offsets": list(b.offsets), "global_shape": list(t.shape)} for name, (t, b) in boxes.items()}
    return {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "SHARDWELD_SHARDS": listed(names), "format": "pt"}


def as_torch(data):
    """A shard file of ours or of torch as torch writes it: without what tells of lost shards; torch's library writes the keys of the
    metadata in any order, here they are sorted."""
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    metadata = entries["__metadata__"]
    metadata.pop("SHARDWELD_SHARDS", None)
    info = json.loads(metadata["DCP_SHARDING_INFO"])
    for box in info.values():
        box.pop("global_shape", None)
    entries["__metadata__"] = dict(sorted({**metadata, "DCP_SHARDING_INFO": json.dumps(info)}.items()))
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    raw = raw.ljust(-(-len(raw) // 8) * 8)
    return struct.pack("<Q", len(raw)) + raw + data[8 + length :]


def write_shard(path, boxes, metadata=None):
    """One shard file. boxes: {fqn: (full tensor, Box)}."""
    held = {name: Tensor(t.dtype, b.shape, cut(t, b)) for name, (t, b) in boxes.items()}
    if metadata is None:
        metadata = shard_metadata({name: b.offsets for name, (_, b) in boxes.items()})
    write(path, serialize(held, metadata))


def write_sharded(directory, tensors, boxes, models=None, replicas=False, own=False):
    """A sharded checkpoint as torch's DCP writes it.

    boxes     {fqn: [Box or None for each rank]}
    models    {fqn: number of its model file}; None = all in 1
    replicas  write equal boxes of several ranks each time (DCP keeps the first rank's by default)
    own       with what our own writers add
    """
    os.makedirs(directory, exist_ok=True)
    models = models or {name: 1 for name in tensors}
    top = max(models.values(), default=1)
    ranks = max((len(b) for b in boxes.values()), default=0)
    seen, files = set(), {}
    for rank in range(ranks):
        for j in sorted(set(models.values())):
            held = {}
            for name, tensor in tensors.items():
                box = boxes[name][rank] if models[name] == j and rank < len(boxes[name]) else None
                if box is None or (not replicas and (name, box) in seen):
                    continue
                seen.add((name, box))
                held[name] = (tensor, box)
            if held:
                files[shard_name(rank + 1, j, top)] = held
    for name, held in files.items():
        write_shard(os.path.join(directory, name), held, own_metadata(held, files) if own else None)


def write(path, data):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def write_json(path, value):
    write(path, json.dumps(value))


def write_plain(directory, tensors, files, index=None):
    """A plain checkpoint: whole tensors, no sharding info. index: name of an index to write beside it."""
    for name, data in consolidated(tensors, files, index).items():
        write(os.path.join(directory, name), data)


def tree(directory):
    """{relative path: bytes} of every file below a directory, hidden ones included."""
    out = {}
    for base, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                out[os.path.relpath(path, directory)] = f.read()
    return out


def difference(got, want):
    """What differs between two {name: bytes}, in words; "" when nothing does."""
    if sorted(got) != sorted(want):
        return f"files {sorted(got)}, expected {sorted(want)}"
    for name, data in want.items():
        if got[name] != data:
            at = next((i for i, (a, b) in enumerate(zip(got[name], data)) if a != b), min(len(got[name]), len(data)))
            return (
                f"{name}: {len(got[name])} bytes, expected {len(data)}; first difference at {at}: "
                f"{got[name][at : at + 60]!r}, expected {data[at : at + 60]!r}"
            )
    return ""


def same(directory, want):
    """The directory holds exactly these files, {name: bytes}."""
    assert difference(tree(directory), want) == ""
