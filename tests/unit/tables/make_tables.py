#!/usr/bin/env python3
"""Make the tables that test_cast and test_dequant compare with: what torch makes of floating-point values.

    make_tables.py            write cast.inc and dequant.inc beside this file
    make_tables.py --check    compare them with what this torch gives; status 1 if they differ

A NaN is written as the quiet NaN of the target with the sign of the source: torch's bits of a NaN depend on where it
stands. The tables have hashes of whole sets, whose input the tests make again.
"""

import argparse
import os
import sys
import types

import numpy as np
import torch
from sets import CAST_SETS, RANDOM, cast_set, hash_of, mix
from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader as Reader

HERE = os.path.dirname(os.path.abspath(__file__))

DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
TORCH_INT = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
QUIET = {"F64": 0x7FF8000000000000, "F32": 0x7FC00000, "BF16": 0x7FC0, "F16": 0x7E00}
FP8 = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
NUMBERS = {**DTYPES, **FP8, "F8_E8M0": torch.float8_e8m0fnu}
NUMBERS |= {k + str(n): getattr(torch, w + str(n)) for k, w in (("I", "int"), ("U", "uint")) for n in (8, 16, 32, 64)}
TARGETS = ["F32", "BF16", "F16"]


# ---- bits ------------------------------------------------------------------------------------------


def from_bits(bits, dtype):
    width = dtype.itemsize
    signed = np.ascontiguousarray(bits.astype(UNSIGNED[width])).view(SIGNED[width])
    if width == 1:
        signed = signed.view(np.uint8)
    return torch.from_numpy(signed.copy()).view(dtype)


def to_bits(tensor):
    width = tensor.dtype.itemsize
    return tensor.contiguous().view(TORCH_INT[width]).numpy().view(UNSIGNED[width]).reshape(-1).astype(np.uint64)


def quieted(result, name, negative):
    """The bits of a result of dtype `name`; a NaN gets its sign from `negative`."""
    width = DTYPES[name].itemsize
    nan = np.uint64(QUIET[name]) | (negative.astype(np.uint64) << np.uint64(8 * width - 1))
    return np.where(torch.isnan(result).reshape(-1).numpy(), nan, to_bits(result))


def cast(bits, source, target):
    width = DTYPES[source].itemsize
    negative = (bits.astype(np.uint64) >> np.uint64(8 * width - 1)) & np.uint64(1)
    return quieted(from_bits(bits, DTYPES[source]).to(DTYPES[target]), target, negative)


# ---- tables ------------------------------------------------------------------------------------------


def hex_of(value):
    return f"0x{int(value):x}"


def cast_table():
    lines = ["/* Whole sets: every value of 16 bits; of more random ones, and edges. X(set, from, to, hash) */", "#define CAST_SETS(X) \\"]
    for name, source in CAST_SETS:
        bits = cast_set(name, source)
        for target in DTYPES:
            if target != source:
                lines.append(f"    X({name}, {source}, {target}, {hex_of(hash_of(cast(bits, source, target)))}) \\")
    lines += ["", f"#define CAST_RANDOM {RANDOM}"]
    return lines


SCALES = [0x3F800000, 0x00000000, 0x80000000, 0x00000001, 0x00400000, 0x00800000, 0x3E99999A, 0xBF2AAAAB, 0x3727C5AC]
SCALES += [0x33800001, 0x2F123457, 0x7F7FFFFF, 0x7F000000, 0x42F6E979, 0xC0490FDB, 0x7F800000, 0xFF800000, 0x7FC00001]
ROWS, COLUMNS, BLOCK = 150, 300, 128

# Weights that are no FP8, scales of every kind, blocks of other sizes; (weights, scales, block, target)
SCALED = [("I8", "F32", 128, "F32"), ("I8", "BF16", 64, "BF16"), ("U8", "F32", 128, "F16"), ("I16", "F16", 32, "F32"), ("U16", "F32", 100, "BF16"),
          ("I32", "F32", 128, "F32"), ("U32", "F64", 256, "BF16"), ("I64", "F32", 128, "F32"), ("U64", "BF16", 16, "F32"), ("BF16", "F32", 128, "BF16"),
          ("BF16", "F64", 64, "F32"), ("F16", "F32", 128, "F16"), ("F32", "F32", 128, "F32"), ("F32", "F8_E8M0", 7, "BF16"), ("F64", "F64", 512, "F32"),
          ("F64", "F32", 128, "F16"), ("F8_E8M0", "F32", 128, "F32"), ("F8_E4M3", "F8_E4M3", 48, "BF16"), ("F8_E4M3", "F64", 1, "F32"),
          ("F8_E5M2", "F8_E5M2", 64, "F16"), ("F8_E5M2", "F32", 299, "BF16")]  # fmt: skip


def weight_sign(weights, dtype):
    """A NaN has the sign of its weight; the NaN of an FNUZ format has none."""
    if dtype == "F8_E8M0":
        return weights * np.uint64(0)
    return np.where(dtype.endswith("FNUZ") & (weights == 128), 0, weights >> np.uint64(8 * NUMBERS[dtype].itemsize - 1))


def fp8_values(fp8, target):
    """All weights with all of SCALES, scale by scale."""
    weights = np.tile(np.arange(256, dtype=np.uint64), len(SCALES))
    scales = from_bits(np.repeat(np.array(SCALES, dtype=np.uint64), 256), torch.float32)
    result = (from_bits(weights, FP8[fp8]).to(torch.float32) * scales).to(DTYPES[target])
    return hash_of(quieted(result, target, weight_sign(weights, fp8)))


def scale_bits(bits, scale):
    if scale == "F8_E8M0":
        return np.uint64(118) + bits % np.uint64(9)
    if scale in FP8:
        return np.uint64(0x30) + bits % np.uint64(0x10)
    if scale == "F64":
        return np.uint64(0x3FD0000000000000) + bits % np.uint64(0x0100000000000000)
    return np.uint64(0x38000000) + bits % np.uint64(0x04000000) if scale == "F32" else np.uint64(0x3800) + bits % np.uint64(0x0400)


def matrix(dtype, scale, target, block=BLOCK):
    """What the reader's own function makes of a matrix with ragged edges."""
    weights = mix(np.arange(ROWS * COLUMNS, dtype=np.uint64)) >> np.uint64(64 - 8 * NUMBERS[dtype].itemsize)
    blocks = [-(-ROWS // block), -(-COLUMNS // block)]
    bits = mix(np.arange(blocks[0] * blocks[1], dtype=np.uint64) + np.uint64(1000))
    tensor = from_bits(weights, NUMBERS[dtype]).reshape(ROWS, COLUMNS)
    result = Reader._dequantize_tensor(
        types.SimpleNamespace(target_dtype=DTYPES[target], block_size=block),
        weight=tensor,
        scale_inv=from_bits(scale_bits(bits, scale), NUMBERS[scale]).reshape(blocks),
        full_tensor_shape=tensor.shape,
        slice_info=((0, blocks[0]), (0, blocks[1]), slice(0, ROWS), slice(0, COLUMNS)),
    )
    return hash_of(quieted(result, target, weight_sign(weights, dtype)))


def mxfp4(target):
    """All values under all scales, by the reader's own function: blocks [1, 256, 1, 16], one row for each scale."""
    block = torch.tensor([2 * i % 16 | (2 * i + 1) % 16 << 4 for i in range(16)], dtype=torch.uint8)
    blocks = block.expand(1, 256, 1, 16).contiguous()
    request = types.SimpleNamespace(storage_offsets=[0, 0, 0], lengths=[1, 256, 32])
    return Reader._dequantize_tensor_mxfp4(
        types.SimpleNamespace(target_dtype=DTYPES[target]),
        blocks=blocks,
        scales=torch.arange(256, dtype=torch.uint8).reshape(1, 256, 1),
        req=request,
        group_start=0,
        offset_in_first_group=0,
    ).reshape(256, 32)


def dequant_table():
    lines = ["/* Scales that the weights are multiplied with. */", "#define FP8_SCALES \\"]
    lines += [f"    {hex_of(s)}, \\" for s in SCALES]
    lines += ["", "/* All weights with all scales. X(fp8, to, hash) */", "#define FP8_VALUES(X) \\"]
    lines += [f"    X({w}, {t}, {hex_of(fp8_values(w, t))}) \\" for w in FP8 for t in TARGETS]
    lines += ["", f"#define FP8_ROWS {ROWS}", f"#define FP8_COLUMNS {COLUMNS}"]
    lines += ["", "/* A matrix with ragged edges. X(fp8, scale, to, hash) */", "#define FP8_MATRICES(X) \\"]
    for w in FP8:
        for s in ("F32", "BF16", "F16", "F8_E8M0"):
            lines += [f"    X({w}, {s}, {t}, {hex_of(matrix(w, s, t))}) \\" for t in TARGETS]
    lines += ["", "/* The same of other weights and blocks. X(dtype, scale, block, to, hash) */", "#define SCALED_MATRICES(X) \\"]
    lines += [f"    X({w}, {s}, {b}, {t}, {hex_of(matrix(w, s, t, b))}) \\" for w, s, b, t in SCALED]
    e8m0 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e8m0fnu).to(torch.float32)
    bits = quieted(e8m0, "F32", np.zeros(256))
    lines += ["", "/* All scales of 8 bits as F32. */", f"#define E8M0_HASH {hex_of(hash_of(bits))}"]
    lines += ["", "/* All values under all scales, scale by scale. X(to, hash) */", "#define MXFP4_SETS(X) \\"]
    lines += [f"    X({t}, {hex_of(hash_of(to_bits(mxfp4(t)[:, :16])))}) \\" for t in TARGETS]
    return lines


def text_of(lines):
    """A macro ends where its last line does."""
    lines = [line[:-2] if line.endswith(" \\") and not following else line for line, following in zip(lines, lines[1:] + [""])]
    head = f"/* Made by make_tables.py with torch {torch.__version__.split('+')[0]}. */"
    return "\n".join([head, "", *lines]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    differs = False
    with np.errstate(over="ignore"):
        tables = {"cast.inc": text_of(cast_table()), "dequant.inc": text_of(dequant_table())}
    for name, text in tables.items():
        path = os.path.join(HERE, name)
        if not check:
            with open(path, "w") as f:
                f.write(text)
        elif open(path).read().splitlines()[1:] != text.splitlines()[1:]:
            print(f"{name} differs from what torch {torch.__version__} gives")
            differs = True
    sys.exit(differs)


if __name__ == "__main__":
    main()
