"""Large sharded checkpoints that take little room: real headers, data of holes."""

import json
import os
import pickle
import random
import sys
import types

import distcp
import oracle

ROWS = 4  # of each box
COLUMNS = 64
BOX = ROWS * COLUMNS * 2  # bytes, BF16


def names(tensors):
    return [f"model.layers.{i // 8}.mlp.experts.{i % 8}.up_proj.weight" for i in range(tensors)]


def make(directory, files, tensors):
    """FILES shard files of TENSORS matrices each, sharded by rows: files x tensors boxes."""
    os.makedirs(directory, exist_ok=True)
    order = sorted(names(tensors))
    entries = ",".join(
        f'"{n}":{{"dtype":"BF16","shape":[{ROWS},{COLUMNS}],"data_offsets":[{i * BOX},{(i + 1) * BOX}]}}'
        for i, n in enumerate(order)
    )
    # The sharding info is JSON in a JSON string: only its offsets differ from file to file.
    info = json.dumps(json.dumps({n: {"saved_offsets": ["@", 0]} for n in order}).replace('"@"', "@"))
    for i in range(files):
        text = '{"__metadata__":{"DCP_SHARDING_INFO":' + info.replace("@", str(i * ROWS))
        text += ',"DCP_VERSION":"1.0","format":"pt"},' + entries + "}"
        raw = text.encode()
        raw += b" " * (-len(raw) % 8)
        with open(os.path.join(directory, oracle.shard_name(i + 1)), "wb") as f:
            f.write(len(raw).to_bytes(8, "little") + raw)
            f.truncate(8 + len(raw) + tensors * BOX)


def make_grid(directory, rows, columns):
    """One matrix in a grid of ROWS x COLUMNS boxes, a file for each."""
    os.makedirs(directory, exist_ok=True)
    for i in range(rows * columns):
        at = (i // columns * ROWS, i % columns * COLUMNS)
        head = oracle.header([("w", "BF16", (ROWS, COLUMNS), BOX)], oracle.shard_metadata({"w": at}))
        with open(os.path.join(directory, oracle.shard_name(i + 1)), "wb") as f:
            f.write(head)
            f.truncate(len(head) + BOX)


class Size(tuple):
    """As torch.Size, which a pickle has as a call of it."""

    __module__ = "torch"

    def __reduce__(self):
        return (Size, (tuple(self),))


def module_of(name, members):
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
        value.__module__, value.__qualname__ = name, key
    return module


class Named:
    """What a pickle has as a name alone."""

    def __reduce__(self):
        return self.__qualname__


def write_metadata(path, files, tensors, item_len):
    """What torch would write for it; pickled in C, by classes that stand where torch's would."""
    meta = ("Metadata", "MetadataIndex", "TensorStorageMetadata", "ChunkStorageMetadata", "TensorProperties", "_MEM_FORMAT_ENCODING")
    m = module_of(distcp.MODULE, {name: type(name, (distcp.Record,), {}) for name in meta})
    system = module_of("torch.distributed.checkpoint.filesystem", {"_StorageInfo": type("_StorageInfo", (distcp.Record,), {})})
    torch = module_of("torch", {"Size": Size, "bfloat16": Named()})
    layouts = module_of("torch.serialization", {"_get_layout": lambda word: word})
    m.TensorProperties.__getstate__ = lambda self: self.state
    layout, memory = distcp.Call(layouts._get_layout, "torch.strided"), distcp.Call(m._MEM_FORMAT_ENCODING, 0)  # noqa: SLF001
    here = {module.__name__: module for module in (m, system, torch, layouts)}
    state, stored = {}, {}
    names_of_files = [f"__{i}_0.distcp" for i in range(files)]
    order = names(tensors)
    for name in order:
        properties = m.TensorProperties(state=(torch.bfloat16, layout, False, memory, False))
        # Each has sizes of its own, since ranks have told them.
        chunks = [m.ChunkStorageMetadata(offsets=Size((i * ROWS, 0)), sizes=Size((ROWS, COLUMNS))) for i in range(files)]
        state[name] = m.TensorStorageMetadata(properties=properties, size=Size((files * ROWS, COLUMNS)), chunks=chunks)
    for i, file in enumerate(names_of_files):
        for k, name in enumerate(order):
            index = m.MetadataIndex(fqn=name, offset=Size((i * ROWS, 0)), index=i)
            info = system._StorageInfo(relative_path=file, offset=k * item_len, length=item_len, transform_descriptors=None)  # noqa: SLF001
            stored[index] = info
    whole = m.Metadata(state_dict_metadata=state, planner_data={n: (n,) for n in order}, storage_data=stored, storage_meta=None)
    before = {name: sys.modules.get(name) for name in here}
    sys.modules.update(here)
    try:
        with open(path, "wb") as f:
            pickle.dump(whole, f)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def make_distcp(directory, files, tensors):
    """The same boxes in torch's own format. All files have the same bytes, and are one."""
    os.makedirs(directory, exist_ok=True)
    item = distcp.item("BF16", (ROWS, COLUMNS), bytes(BOX))
    first = os.path.join(directory, "__0_0.distcp")
    with open(first, "wb") as f:
        f.write(item * tensors)
    for i in range(1, files):
        os.link(first, os.path.join(directory, f"__{i}_0.distcp"))
    write_metadata(os.path.join(directory, ".metadata"), files, tensors, len(item))


def make_ragged(directory, files, tensors):
    """FILES shard files of TENSORS matrices, each cut at places of its own: no rule describes them. Their data are random."""
    os.makedirs(directory, exist_ok=True)
    some = random.Random(files * tensors)
    order, ends = sorted(names(tensors)), {}
    for n in order:
        ends[n] = [0, *sorted(some.sample(range(1, 8 * files), files - 1)), 8 * files]
    for i in range(files):
        boxes = [(n, "BF16", (ends[n][i + 1] - ends[n][i], 4), 8 * (ends[n][i + 1] - ends[n][i])) for n in order]
        head = oracle.header(boxes, oracle.shard_metadata({n: (ends[n][i], 0) for n in order}))
        with open(os.path.join(directory, oracle.shard_name(i + 1)), "wb") as f:
            f.write(head + some.randbytes(sum(b[3] for b in boxes)))
