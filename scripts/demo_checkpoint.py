"""Make a sharded checkpoint, and beside it the consolidated one that it stands for.

usage: demo_checkpoint.py SHARDED_DIR WHOLE_DIR

The shards are what torch's DCP writes with HuggingFaceStorageWriter(save_distributed=True) on four ranks; the whole files
are what safetensors' save_file writes for the full tensors; both have a config.json. Needs nothing but Python, and shares no code with
shardweld, so that the comparison means something.
"""

import json
import os
import random
import struct
import sys

SIZE = {"BF16": 2, "F32": 4, "I64": 8}
# Larger alignment first, then name: the order in which the reference serializer lays tensors out.
ORDER = ["I64", "F32", "BF16"]
RANKS = 4


def product(numbers):
    out = 1
    for n in numbers:
        out *= n
    return out


def model():
    """{name: (dtype, shape, how it is sharded, output file)}"""
    out = {"model.embed_tokens.weight": ("BF16", (32000, 512), "rows", 1)}
    for i in range(4):
        p = f"model.layers.{i}."
        f = 1 + i // 2
        out[p + "self_attn.q_proj.weight"] = ("BF16", (512, 512), "rows", f)
        out[p + "self_attn.o_proj.weight"] = ("BF16", (512, 512), "columns", f)
        out[p + "mlp.up_proj.weight"] = ("BF16", (1370, 512), "rows", f)  # 1370 rows do not divide by 4
        out[p + "mlp.down_proj.weight"] = ("BF16", (512, 1376), "grid", f)
        out[p + "input_layernorm.weight"] = ("F32", (512,), "copies", f)
    out["model.norm.weight"] = ("F32", (512,), "rows", 2)
    out["lm_head.weight"] = ("BF16", (32000, 512), "columns", 2)
    out["step"] = ("I64", (), "first", 2)
    return out


def cut(n, parts, i):
    """Part i of n, as torch.chunk cuts: all of equal size but the last."""
    size = -(-n // parts)
    begin = min(i * size, n)
    return begin, min(size, n - begin)


def box(shape, how, rank):
    """(offsets, lengths) of what a rank holds, or None."""
    if how == "copies" or (how == "first" and rank == 0):
        return [0] * len(shape), list(shape)
    if how == "first":
        return None
    grid = {"rows": (4, 1), "columns": (1, 4), "grid": (2, 2)}[how][: len(shape)]
    at = (rank // grid[-1], rank % grid[-1]) if len(shape) == 2 else (rank,)
    cuts = [cut(n, p, i) for n, p, i in zip(shape, grid, at)]
    return [c[0] for c in cuts], [c[1] for c in cuts]


def take(data, size, shape, offsets, lengths):
    """The bytes of a box of a tensor of at most two dimensions."""
    if len(shape) < 2:
        return data[sum(offsets) * size : (sum(offsets) + product(lengths)) * size]
    row = shape[1] * size
    rows = range(offsets[0], offsets[0] + lengths[0])
    begin, end = offsets[1] * size, (offsets[1] + lengths[1]) * size
    return b"".join(data[r * row + begin : r * row + end] for r in rows)


def save(path, tensors, metadata):
    """tensors: {name: (dtype, shape, bytes)}"""
    header = {"__metadata__": metadata}
    at = 0
    names = sorted(tensors, key=lambda n: (ORDER.index(tensors[n][0]), n))
    for name in names:
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            f.write(tensors[name][2])


def save_shards(path, full):
    files = max(f for _, _, _, f, _ in full.values())
    for rank in range(RANKS):
        for j in range(1, files + 1):
            tensors, info = {}, {}
            for name, (dtype, shape, how, f, data) in full.items():
                part = box(shape, how, rank) if f == j else None
                if part:
                    tensors[name] = (dtype, part[1], take(data, SIZE[dtype], shape, *part))
                    info[name] = {"saved_offsets": part[0]}
            metadata = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)}
            save(f"{path}/shard-{rank + 1:05}-model-{j:05}-of-{files:05}.safetensors", tensors, metadata)


def save_whole(path, full):
    files = max(f for _, _, _, f, _ in full.values())
    names = {name: f"model-{t[3]:05}-of-{files:05}.safetensors" for name, t in full.items()}
    for file in set(names.values()):
        save(f"{path}/{file}", {n: (t[0], t[1], t[4]) for n, t in full.items() if names[n] == file}, {"format": "pt"})
    total = {
        "total_parameters": sum(product(t[1]) for t in full.values()),
        "total_size": sum(len(t[4]) for t in full.values()),
    }
    with open(f"{path}/model.safetensors.index.json", "w") as f:
        f.write(json.dumps({"metadata": total, "weight_map": names}, indent=2, sort_keys=True) + "\n")


def main(sharded, whole):
    rng = random.Random(2024)
    full = {n: (*t, rng.randbytes(product(t[1]) * SIZE[t[0]])) for n, t in model().items()}
    os.makedirs(sharded)
    os.makedirs(whole)
    save_shards(sharded, full)
    save_whole(whole, full)
    for path in sharded, whole:
        with open(f"{path}/config.json", "w") as f:
            f.write(json.dumps({"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}, indent=2) + "\n")


main(*sys.argv[1:])
