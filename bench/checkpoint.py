"""Make a Llama-shaped sharded checkpoint, as torch's DCP writes them: checkpoint.py DIR [options].

BF16 (or F32) noise, sharded by rows, by columns or in a 2-D grid over a number of ranks; DIR/map.json says which
tensor belongs into which output file.
"""

import argparse
import json
import os
import sys
from math import prod

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import oracle  # noqa: E402

HIDDEN, INNER, HEADS, VOCABULARY = 4096, 14336, 1024, 32000
LAYER = {
    "input_layernorm": (HIDDEN,),
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HEADS, HIDDEN),
    "self_attn.v_proj": (HEADS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "post_attention_layernorm": (HIDDEN,),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
NOISE = 32 << 20


def shapes(size):
    """{fqn: shape} of at least this many bytes; the vocabulary shrinks where one layer is already too much."""
    words = min(VOCABULARY, max(1024, size // 8 // (2 * HIDDEN)))
    out = {"model.embed_tokens.weight": (words, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (words, HIDDEN)}
    total, layer = sum(map(prod, out.values())) * 2, 0
    while total < size:
        for name, shape in LAYER.items():
            out[f"model.layers.{layer}.{name}.weight"] = shape
            total += prod(shape) * 2
        layer += 1
    return out


def numbers(tensors, files):
    """{fqn: file number}: runs of tensors of about equal bytes."""
    total, seen, out = sum(map(prod, tensors.values())), 0, {}
    for name, shape in tensors.items():
        out[name] = min(files, 1 + seen * files // total)
        seen += prod(shape)
    return out


def boxes(shape, layout, ranks):
    if len(shape) == 1 or layout == "rows":
        return oracle.boxes_of(shape, (ranks,), (0,))
    if layout == "columns":
        return oracle.boxes_of(shape, (ranks,), (1,))
    across = next(n for n in range(int(ranks**0.5), 0, -1) if ranks % n == 0)
    return oracle.boxes_of(shape, (across, ranks // across), (0, 1))


def make(directory, size, layout="rows", ranks=8, files=1, dtype="BF16"):
    """Write it; (bytes of tensor data, paths of the shard files)."""
    os.makedirs(directory, exist_ok=True)
    width = oracle.DTYPES[dtype] // 8
    tensors = shapes(size * 2 // width)
    place = numbers(tensors, files)
    with open(os.path.join(directory, "map.json"), "w") as f:
        json.dump(place, f)
    noise = memoryview(np.random.default_rng(0).bytes(NOISE))
    paths, at = [], 0
    for rank in range(ranks):
        for j in range(1, files + 1):
            held = {n: boxes(s, layout, ranks)[rank] for n, s in tensors.items() if place[n] == j}
            order = sorted(held, key=str.encode)
            entries = [(n, dtype, held[n].shape, prod(held[n].shape) * width) for n in order]
            path = os.path.join(directory, oracle.shard_name(rank + 1, j, files))
            with open(path, "wb") as f:
                f.write(oracle.header(entries, oracle.shard_metadata({n: held[n].offsets for n in held})))
                for *_, left in entries:
                    while left:
                        piece = noise[at : at + left]
                        f.write(piece)
                        left -= len(piece)
                        at = (at + len(piece) + 4098) % (NOISE - 8192)
            paths.append(path)
    return sum(map(prod, tensors.values())) * width, paths


def size_of(text):
    for unit, factor in (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)):
        if text.endswith(unit):
            return int(float(text[: -len(unit)]) * factor)
    return int(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--size", default="2GiB", type=size_of, help="bytes of tensor data [2GiB]")
    parser.add_argument("--layout", default="rows", choices=["rows", "columns", "grid"])
    parser.add_argument("--ranks", default=8, type=int, help="ranks that saved it [8]")
    parser.add_argument("--files", default=1, type=int, help="output files [1]")
    parser.add_argument("--dtype", default="BF16", choices=["BF16", "F32"])
    args = parser.parse_args()
    total, made = make(args.directory, args.size, args.layout, args.ranks, args.files, args.dtype)
    print(f"{args.directory}: {total / 2**30:.2f} GiB in {len(made)} shard files")
