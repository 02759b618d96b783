"""What values become: the oracle of --cast-dtype, --dequantize and the mapping of dtypes, with numpy alone.

A tensor is oracle.Tensor(dtype, shape, bytes), as everywhere here. Each function follows the contract's words as plainly
as it can: all goes through arrays of numbers, and NaNs are put in by hand, because CPUs differ in what they make of one.
tests/torch/test_values_oracle.py proves it against torch and transformers.
"""

from math import prod

import numpy as np
from oracle import Tensor

FLOATING = ("F64", "F32", "BF16", "F16")
TORCH = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "F8_E4M3": "float8_e4m3fn",
         "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "U8": "uint8",
         "I8": "int8", "BOOL": "bool"}  # fmt: skip
UINT = {"F64": np.uint64, "F32": np.uint32, "BF16": np.uint16, "F16": np.uint16, "I16": np.uint16, "I32": np.uint32, "I64": np.uint64}
SIGNED = {"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}
QUIET = {"F64": 0x7FF8000000000000, "F32": 0x7FC00000, "BF16": 0x7FC0, "F16": 0x7E00}
INFINITY = {"F64": 0x7FF0000000000000, "F32": 0x7F800000, "BF16": 0x7F80, "F16": 0x7C00}
BLOCK = (128, 128)  # rows and columns under one scale
GROUP = 32  # MXFP4 values under one scale


# ---- bits and numbers -----------------------------------------------------------------------------


def bits_of(tensor):
    """The elements as unsigned integers, flat."""
    return np.frombuffer(tensor.data, dtype=UINT.get(tensor.dtype, np.uint8))


def from_bits(dtype, shape, bits):
    return Tensor(dtype, tuple(int(n) for n in shape), np.ascontiguousarray(bits, dtype=UINT.get(dtype, np.uint8)).tobytes())


def numbers(dtype, bits):
    """Bits of a floating dtype as F64 (of an F64) or F32 (of all others): exact."""
    if dtype == "F64":
        return bits.view(np.float64)
    if dtype == "F32":
        return bits.view(np.float32)
    if dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(np.float16).astype(np.float32)


def round_to(dtype, values):
    """F64 or F32 numbers to the bits of a floating dtype: to nearest, ties to even; NaNs are the caller's business."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "F64":
            return values.astype(np.float64).view(np.uint64)
        f32 = np.ascontiguousarray(values.astype(np.float32))  # also on the way to 16 bits
        if dtype == "F32":
            return f32.view(np.uint32)
        if dtype == "F16":
            return f32.astype(np.float16).view(np.uint16)
    u = f32.view(np.uint32).astype(np.uint64)
    return ((u + np.uint64(0x7FFF) + (u >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)


def rounded(dtype, values, negative):
    """The same with NaNs: the quiet one of the dtype, with the sign that is given."""
    width = 8 * UINT[dtype]().itemsize
    nan = negative.astype(UINT[dtype]) << UINT[dtype](width - 1) | UINT[dtype](QUIET[dtype])
    return np.where(np.isnan(values), nan, round_to(dtype, values))


# ---- casts ----------------------------------------------------------------------------------------


def cast(tensor, dtype):
    """A floating tensor as another floating dtype; of its own dtype it is the same bytes."""
    if dtype == tensor.dtype:
        return tensor
    bits = bits_of(tensor)
    negative = bits >> UINT[tensor.dtype](8 * bits.itemsize - 1)
    return from_bits(dtype, tensor.shape, rounded(dtype, numbers(tensor.dtype, bits), negative))


def cast_all(tensors, dtype, stay=()):
    """--cast-dtype without a mapping; stay: names that become F32 instead."""
    return {n: cast(t, "F32" if n in stay else dtype) if t.dtype in FLOATING else t for n, t in tensors.items()}


# ---- scales of blocks -----------------------------------------------------------------------------


def fp8_table(dtype):
    """The 256 values as F32."""
    mantissa, bias = (3, 7) if dtype == "F8_E4M3" else (2, 15)
    out = np.empty(256, dtype=np.float32)
    for byte in range(256):
        exponent, fraction = (byte & 0x7F) >> mantissa, byte & (1 << mantissa) - 1
        value = (fraction / (1 << mantissa) + (exponent > 0)) * 2.0 ** (max(exponent, 1) - bias)
        if dtype == "F8_E4M3" and byte & 0x7F == 0x7F:
            value = float("nan")
        if dtype == "F8_E5M2" and exponent == 31:
            value = float("nan") if fraction else float("inf")
        out[byte] = -value if byte & 0x80 else value
    return out


def as_f32(tensor):
    """Any number as F32, flat: scales, weights."""
    bits = bits_of(tensor)
    if tensor.dtype == "F8_E8M0":
        return np.where(bits == 255, np.nan, 2.0 ** (bits.astype(np.float64) - 127)).astype(np.float32)
    if tensor.dtype.startswith("F8"):
        return fp8_table(tensor.dtype)[bits]
    with np.errstate(over="ignore", under="ignore"):
        return (bits.view(SIGNED[tensor.dtype]) if tensor.dtype in SIGNED else bits if tensor.dtype == "U8" else numbers(tensor.dtype, bits)).astype(np.float32)


def scaled(weight, scales, dtype, block=BLOCK):
    """Each weight times the scale of its block, in F32, rounded once."""
    rows, columns = weight.shape
    raw = bits_of(weight).reshape(rows, columns)
    each = as_f32(scales).reshape(scales.shape)
    spread = each[np.arange(rows)[:, None] // block[0], np.arange(columns)[None, :] // block[1]]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = as_f32(weight).reshape(rows, columns) * spread
    return from_bits(dtype, weight.shape, rounded(dtype, product, raw >> raw.dtype.type(8 * raw.itemsize - 1)))


# ---- MXFP4 ----------------------------------------------------------------------------------------


FP4 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def mxfp4_rows(blocks, scales):
    """[E, R, G * 32] as F64, which holds every value exactly."""
    experts, rows, groups, _ = blocks.shape
    raw = bits_of(blocks).reshape(experts, rows, groups, 16)
    nibbles = np.stack([raw & 15, raw >> 4], axis=-1).reshape(experts, rows, groups, GROUP)
    power = 2.0 ** (bits_of(scales).reshape(experts, rows, groups, 1).astype(np.float64) - 127)
    return (np.where(nibbles & 8, -FP4[nibbles & 7], FP4[nibbles & 7]) * power).reshape(experts, rows, groups * GROUP)


def mxfp4(blocks, scales, dtype):
    """[E, G * 32, R]: the layout that loaders expect. No value needs more than one rounding: F32 takes all but those that overflow."""
    values = np.ascontiguousarray(mxfp4_rows(blocks, scales).transpose(0, 2, 1))
    return from_bits(dtype, values.shape, round_to(dtype, values))


# ---- values to try --------------------------------------------------------------------------------


def hard_numbers(rng, dtype, shape):
    """Bits of all kinds: any at all, numbers that F16 reaches, ties between two BF16s or two F16s and their neighbours, and the edges."""
    n, uint = prod(shape), UINT[dtype]
    width = 8 * uint().itemsize
    any_bits = rng.integers(0, 1 << width, n, dtype=uint)
    near = round_to(dtype, (rng.standard_normal(n) * 2.0 ** rng.integers(-30, 18, n)).astype(np.float64))
    digits = {"F64": 52, "F32": 23, "BF16": 7, "F16": 10}[dtype]
    kept = np.where(rng.random(n) < 0.5, 10, 7)  # a tie of F16, or of BF16
    below = np.maximum(digits - kept, 1)
    half = np.array([1 << int(b - 1) for b in below], dtype=uint)
    tie = (near & ~(half * uint(2) - uint(1))) + half + rng.integers(0, 3, n).astype(uint) - uint(1)
    edges = np.array([0, 1, QUIET[dtype], INFINITY[dtype], INFINITY[dtype] - 1, INFINITY[dtype] + 1], dtype=uint)
    edge = rng.choice(edges, n) | rng.integers(0, 2, n).astype(uint) << uint(width - 1)
    bits = np.choose(rng.choice(4, n, p=[0.3, 0.3, 0.3, 0.1]), [any_bits, near, tie, edge])
    return from_bits(dtype, shape, bits)


def scaled_tensors(rng, name, dtype, shape, scale="F32", block=BLOCK):
    """{name.weight, name.weight_scale_inv}: any weights, scales about 1, some of them odd."""
    blocks = tuple(-(-n // size) for n, size in zip(shape, block))
    if scale == "F8_E8M0":
        scales = from_bits(scale, blocks, rng.integers(110, 140, prod(blocks)))
    else:
        scales = from_bits(scale, blocks, round_to(scale, np.exp2(rng.uniform(-12, 6, prod(blocks)))))
    uint = UINT.get(dtype, np.uint8)
    weight = from_bits(dtype, shape, rng.integers(0, np.iinfo(uint).max, prod(shape), dtype=uint, endpoint=True))
    if dtype in FLOATING:
        weight = hard_numbers(rng, dtype, shape)
    return {f"{name}.weight": weight, f"{name}.weight_scale_inv": scales}


def mxfp4_tensors(rng, name, experts, rows, groups):
    blocks = from_bits("U8", (experts, rows, groups, 16), rng.integers(0, 256, experts * rows * groups * 16))
    scales = from_bits("U8", (experts, rows, groups), rng.choice([0, 1, 100, 113, 127, 128, 141, 254, 255], experts * rows * groups))
    return {f"{name}_blocks": blocks, f"{name}_scales": scales}
