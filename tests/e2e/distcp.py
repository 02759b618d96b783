"""Write checkpoints in torch DCP's own format without torch: .metadata, and items in .distcp files.

The classes have torch's names and modules; a pickle says no more of them. What is to be wrong is put in by the
one who calls: each step is a function of its own.
"""

import collections
import io
import os
import pickle
import struct
import zlib

MODULE = "torch.distributed.checkpoint.metadata"


class Name:
    """A global: a pickle has no more of it than where it is, and what it is called."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError("called")


class Record:
    """An object of such a class: its members are its state, or what __getstate__ gives."""

    def __init__(self, **members):
        self.__dict__.update(members)


def record(module, name):
    return type(name, (Record,), {"said": Name(module, name)})


Metadata = record(MODULE, "Metadata")
MetadataIndex = record(MODULE, "MetadataIndex")
TensorStorageMetadata = record(MODULE, "TensorStorageMetadata")
BytesStorageMetadata = record(MODULE, "BytesStorageMetadata")
ChunkStorageMetadata = record(MODULE, "ChunkStorageMetadata")
StorageInfo = record("torch.distributed.checkpoint.filesystem", "_StorageInfo")


class TensorProperties(Record):
    said = Name(MODULE, "TensorProperties")

    def __getstate__(self):
        return self.state


class Call:
    """What a pickle says of a call: what is called, and with what."""

    def __init__(self, function, *args):
        self.said = (function, args)

    def __reduce__(self):
        return self.said


class Pickler(pickle._Pickler):  # noqa: SLF001 - the one in C cannot be taught names
    def __init__(self, *args):
        super().__init__(*args)
        self.known = {}  # names, each once

    def save(self, obj, *args, **kwargs):
        said = obj if isinstance(obj, Name) else getattr(obj, "said", None) if isinstance(obj, type) else None
        if said is None:
            return super().save(obj, *args, **kwargs)
        said = self.known.setdefault((said.module, said.name), said)
        if id(said) in self.memo:
            self.write(self.get(self.memo[id(said)][0]))
        else:
            self.write(f"c{said.module}\n{said.name}\n".encode())
            self.memoize(said)
        return None

    def persistent_id(self, obj):
        return obj.words if isinstance(obj, Stored) else None


class Stored:
    """A storage, which stands outside of the pickle."""

    def __init__(self, *words):
        self.words = words


def dumps(obj, protocol=2):
    out = io.BytesIO()
    Pickler(out, protocol).dump(obj)
    return out.getvalue()


def size(numbers):
    return Call(Name("torch", "Size"), tuple(numbers))


# ---- items ----------------------------------------------------------------------------------------

STORAGES = {"F32": ("FloatStorage", 4), "BF16": ("BFloat16Storage", 2), "I64": ("LongStorage", 8), "U8": ("ByteStorage", 1)}
DTYPES = {"F32": "float32", "BF16": "bfloat16", "I64": "int64", "U8": "uint8", "F8_E4M3": "float8_e4m3fn"}


def strides_of(shape):
    out, n = [], 1
    for s in reversed(shape):
        out.insert(0, n)
        n *= s
    return out


def tensor_pickle(dtype, shape, strides=None, first=0, numel=None, key="0", storage=None):
    name, _ = STORAGES[dtype]
    n = 1
    for s in shape:
        n *= s
    words = ("storage", Name("torch", storage or name), key, "cpu", n if numel is None else numel)
    args = (Stored(*words), first, tuple(shape), tuple(strides_of(shape) if strides is None else strides), False,
            Call(collections.OrderedDict))  # fmt: skip
    return dumps(Call(Name("torch._utils", "_rebuild_tensor_v2"), *args))


def archive(members, method=0, flags=0, crc=None, crc_of="data.pkl", large=False, at=None, lie=0, name="archive"):
    """A zip of stored members, [(name, bytes)]; the rest makes it wrong. large: sizes in extra fields of 64 bits."""
    out, directory = bytearray(), bytearray()
    for member, data in members:
        path = f"{name}/{member}".encode()
        here = len(out)
        check = zlib.crc32(data) if crc is None or member != crc_of else crc
        place = here if at is None else at.get(member, here)
        stored = zlib.compress(data)[2:-4] if method == 8 else data
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, flags, method, 0, 0, check, len(stored), len(data), len(path), 0)
        out += path + stored
        length = len(data) + (lie if member.startswith("data/") else 0)
        if large:
            extra = struct.pack("<HHQQQ", 1, 24, length, len(stored) + length - len(data), place)
            fields = (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        else:
            extra, fields = b"", (len(stored) + length - len(data), length, place)
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, flags, method, 0, 0, check, fields[0], fields[1],
                                 len(path), len(extra), 0, 0, 0, 0, fields[2])  # fmt: skip
        directory += path + extra
    start = len(out)
    out += directory
    if large:
        end = len(out)
        out += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, len(members), len(members), len(directory), start)
        out += struct.pack("<IIQI", 0x07064B50, 0, end, 1)
        out += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    else:
        out += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(members), len(members), len(directory), start, 0)
    return bytes(out)


def item(dtype, shape, data, order=b"little", pkl=None, **wrong):
    members = [("data.pkl", pkl or tensor_pickle(dtype, shape)), ("byteorder", order), ("data/0", data), ("version", b"3\n")]
    return archive(members, **wrong)


# ---- checkpoints ----------------------------------------------------------------------------------


class Box(collections.namedtuple("Box", "file offsets shape item")):
    """A box of a tensor, and the bytes of its item."""


def properties(dtype):
    layout = Call(Name("torch.serialization", "_get_layout"), "torch.strided")
    memory = Call(Name(MODULE, "_MEM_FORMAT_ENCODING"), 0)
    return TensorProperties(state=(Name("torch", DTYPES.get(dtype, dtype)), layout, False, memory, False))


def write(where, tensors, values=(), paths=None, protocol=4, **metadata):
    """tensors: {fqn: (dtype, shape, [Box])}. Files are filled in the order of the boxes. paths: {fqn: where in the state dict it stood};
    {} = the planner says nothing of paths."""
    os.makedirs(where, exist_ok=True)
    files, state, storage = collections.defaultdict(bytearray), {}, {}
    for fqn, (dtype, shape, boxes) in tensors.items():
        chunks = [ChunkStorageMetadata(offsets=size(b.offsets), sizes=size(b.shape)) for b in boxes]
        state[fqn] = TensorStorageMetadata(properties=properties(dtype), size=size(shape), chunks=chunks)
        for i, b in enumerate(boxes):
            info = StorageInfo(relative_path=b.file, offset=len(files[b.file]), length=len(b.item))
            storage[MetadataIndex(fqn=fqn, offset=size(b.offsets), index=i)] = info
            files[b.file] += b.item
    for fqn in values:
        state[fqn] = BytesStorageMetadata()
        info = StorageInfo(relative_path="__0_0.distcp", offset=len(files["__0_0.distcp"]), length=4)
        storage[MetadataIndex(fqn=fqn)] = info
        files["__0_0.distcp"] += b"None"
    planner = {} if paths == {} else {fqn: (paths or {}).get(fqn, (fqn,)) for fqn in state}
    members = {"state_dict_metadata": state, "planner_data": planner, "storage_data": storage, **metadata}
    for name, data in files.items():
        with open(os.path.join(where, name), "wb") as f:
            f.write(data)
    with open(os.path.join(where, ".metadata"), "wb") as f:
        f.write(dumps(Metadata(**members), protocol))


# ---- parts that are written once and named many times -----------------------------------------------


def shared_metadata(n, dims=32, chunks=1):
    """A .metadata of n tensors that share all but their names."""
    ones, zeros = size((1,) * dims), size((0,) * dims)
    chunk = ChunkStorageMetadata(offsets=zeros, sizes=ones)
    tensor = TensorStorageMetadata(properties=properties("F32"), size=ones, chunks=[chunk] * chunks)
    info = StorageInfo(relative_path="x", offset=0, length=1)
    state = {f"{i:x}": tensor for i in range(n)}
    storage = {MetadataIndex(fqn=fqn, offset=zeros, index=0): info for fqn in state}
    return dumps(Metadata(state_dict_metadata=state, planner_data=None, storage_data=storage), 4)


def named_twice(n):
    """A .metadata of n values that have one long name, which it holds once: no dict of Python's is like that."""

    def text(s):
        return b"X" + struct.pack("<I", len(s)) + s

    name, value = text(b"n" * 4000) + b"q\x00", b"c" + MODULE.encode() + b"\nBytesStorageMetadata\n)\x81q\x01"
    state = text(b"state_dict_metadata") + b"}(" + name + value + b"h\x00h\x01" * (n - 1) + b"u"
    others = text(b"storage_data") + b"}" + text(b"planner_data") + b"}"
    return b"\x80\x02c" + MODULE.encode() + b"\nMetadata\n)\x81}(" + state + others + b"ub."


def shared(n=40, groups=1, ranks=1, slices=1, boxes=1, meshes=1, words=1):
    """A metadata.pkl of torch_checkpointing whose parts are named n times: what it speaks of grows with a power of its length."""
    files = {r: {"file_path": f"m{r}", "serialization_format": {"type": "SafetensorsSerialization"}} for r in range(ranks)}
    mesh = [{"mesh_shape": (ranks,), "mesh_data": tuple(range(ranks))} for _ in range(meshes)]
    strides = [{"type": "StridedShard", "dim": 0, "split_factor": boxes}]
    said = [{"global_shape": (4 * boxes * ranks,), "dtype": "float32", "mesh_spec": m, "placements": strides} for m in mesh]
    if slices > 1:
        said = [{"global_shape": (1,), "dtype": "float32", **dict.fromkeys(("global_offsets", "local_sizes", "local_offsets"), [(0,)] * slices)}]
    kind = "default_tensor_v1" if slices > 1 else "DTensorShardingMetadata"
    named = tuple(range(ranks))
    group = [{"sharding_metadata": {"type": kind, "data": d}, "ranks": named} for d in said]
    group = (group * groups)[: max(groups, meshes)]
    paths = {f'["{i:x}"{" " * (words - 1)}]': group for i in range(n)}
    items = {f"model{'' if i == 0 else i}": {"rank_to_layout_info": files, "nested_path_to_metadata": paths} for i in range(words)}
    return pickle.dumps({"metadata": items, "world_size": ranks, "version": "2.0"}, 4)
