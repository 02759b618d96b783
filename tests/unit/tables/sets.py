"""What the tables are made of: input that tests/unit make again (float_help.h, test_cast.c), and the hash of what becomes of it."""

import numpy as np

RANDOM = 1 << 18


def mix(x):
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_of(bits):
    i = np.arange(len(bits), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return int(mix(bits.astype(np.uint64) ^ i).sum(dtype=np.uint64))


# ---- input ------------------------------------------------------------------------------------------


def random_f32(n):
    """Any bits; numbers about the range of F16; ties of F16 there; ties of BF16 anywhere. And what is just beside."""
    i = np.arange(n, dtype=np.uint64)
    r = mix(i)
    u = np.uint64
    sign, mantissa = r >> u(63) << u(31), r >> u(20) & u(0x7FFFFF)
    exponent = u(96) + (r & u(63))
    beside = np.array([0, 1, 2, 3], dtype=np.uint64)[(r >> u(8) & u(3)).astype(int)]
    near = sign | exponent << u(23)
    f16 = (mantissa & u(0x7FE000)) + u(0x0FFF) + beside
    bf16 = (mantissa & u(0x7F0000)) + u(0x7FFF) + beside
    kinds = [r >> u(32), near | mantissa, near + f16, (sign | (r >> u(10) & u(255)) << u(23)) + bf16]
    return np.choose((i & u(3)).astype(int), kinds) & u(0xFFFFFFFF)


def random_f64(n):
    """Any bits; numbers about the range of F32; ties of F32 there; ties of F16 seen through a tie of F32."""
    i = np.arange(n, dtype=np.uint64)
    r = mix(i)
    u = np.uint64
    sign, mantissa = r >> u(63) << u(63), mix(r) & u(0xFFFFFFFFFFFFF)
    beside = r >> u(16) & u(3)
    wide = sign | (u(863) + (r & u(255))) << u(52)
    narrow = sign | (u(992) + (r & u(63))) << u(52)
    f32 = (mantissa & u(0xFFFFFE0000000)) + u((1 << 28) - 1) + beside
    f16 = (mantissa & u(0xFFC0000000000)) + u((1 << 41) - (1 << 28)) + (beside << u(28)) + (r >> u(18) & u(1))
    kinds = [r ^ mix(mantissa), wide | mantissa, wide + f32, narrow + f16]
    return np.choose((i & u(3)).astype(int), kinds)


def edges(exponent, mantissa):
    """Every sign and exponent with every mantissa that is near a step: of the format itself, or of one it is rounded to."""
    near = [((3 if k & 1 else 1) << step) + k // 2 - 1 & (1 << mantissa) - 1 for step in range(mantissa + 1) for k in range(6)]
    high = np.arange(2 << exponent, dtype=np.uint64) << np.uint64(mantissa)
    return (high[:, None] | np.array(near, dtype=np.uint64)[None, :]).reshape(-1)


def cast_set(name, dtype):
    """The bits of a set: every value of 16 bits; of more random ones, and edges."""
    if name == "EVERY":
        return np.arange(65536, dtype=np.uint64)
    if name == "EDGES":
        return edges(8, 23) if dtype == "F32" else edges(11, 52)
    return random_f32(RANDOM) if dtype == "F32" else random_f64(RANDOM)


CAST_SETS = [("EVERY", "BF16"), ("EVERY", "F16"), ("RANDOM", "F32"), ("RANDOM", "F64"), ("EDGES", "F32"), ("EDGES", "F64")]
