"""The oracle of values in tests/e2e is right: torch and transformers say the same, bit for bit (a NaN is a NaN, with its sign)."""

import types
from itertools import product

import numpy as np
import oracle
import pytest
import torch
import values
from test_oracle import TYPES, as_torch
from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader as Reader

TARGETS = ["F32", "BF16", "F16"]


def data_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def same(got, want):
    """got: an oracle tensor; want: torch's. Where torch has a NaN any is taken: its bits depend on the CPU."""
    assert got.shape == tuple(want.shape) and TYPES[got.dtype] == want.dtype
    a, b = values.bits_of(got), values.bits_of(oracle.Tensor(got.dtype, got.shape, data_of(want)))
    nan = torch.isnan(want).reshape(-1).numpy()
    assert np.array_equal(np.isnan(values.numbers(got.dtype, a)), nan)
    assert np.array_equal(a[~nan], b[~nan])
    magnitude = a[nan] & ~(a.dtype.type(1) << a.dtype.type(8 * a.itemsize - 1))
    assert np.all(magnitude == values.QUIET[got.dtype])


@pytest.mark.parametrize("source", values.FLOATING)
@pytest.mark.parametrize("target", values.FLOATING)
def test_casts(source, target):
    if source == target:
        pytest.skip("bytes are copied")
    rng = np.random.default_rng(1)
    if source in ("BF16", "F16"):
        t = values.from_bits(source, (65536,), np.arange(65536, dtype=np.uint16))
    else:
        t = values.hard_numbers(rng, source, (1 << 20,))
    got = values.cast(t, target)
    same(got, as_torch(t).to(TYPES[target]))
    sign = [values.bits_of(x) >> values.UINT[x.dtype](8 * values.UINT[x.dtype]().itemsize - 1) for x in (t, got)]
    assert np.array_equal(*sign)


def test_hard_numbers_are_hard():
    """Some of every kind: NaNs, infinities, subnormals, and values that round up, down and from a tie."""
    rng = np.random.default_rng(2)
    x = values.numbers("F32", values.bits_of(values.hard_numbers(rng, "F32", (1 << 16,))))
    f16 = values.numbers("F16", values.round_to("F16", x))
    finite = np.isfinite(f16)
    assert np.isnan(x).any() and np.isinf(x).any() and (np.isinf(f16) & np.isfinite(x)).any()
    assert ((np.abs(f16) < 2.0**-14) & (f16 != 0)).any()
    assert (f16[finite] > x[finite]).any() and (f16[finite] < x[finite]).any()
    assert np.mean(values.bits_of(values.from_bits("F32", x.shape, x.view(np.uint32))) & 0x1FFF == 0x1000) > 0.01


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8"])
def test_bytes(dtype):
    every = values.from_bits(dtype, (256,), np.arange(256))
    want = as_torch(every).to(torch.float32).numpy()
    got = values.as_f32(every)
    assert np.array_equal(got, want, equal_nan=True) and np.array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "dtype,scale,block",
    [*product(["F8_E4M3", "F8_E5M2"], ["F32", "BF16", "F8_E8M0"], [128]), ("I8", "F32", 128), ("I32", "BF16", 64), ("BF16", "F32", 128),
     ("F16", "F64", 100), ("F32", "F32", 32), ("F64", "F16", 128), ("F8_E4M3", "F32", 7)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(256, 128), (150, 300), (1, 1), (129, 5)])
def test_scaled(shape, dtype, scale, block, target):
    rng = np.random.default_rng(3)
    weight, scales = values.scaled_tensors(rng, "x", dtype, shape, scale, (block, block)).values()
    tensor, blocks = as_torch(weight), scales.shape
    want = Reader._dequantize_tensor(
        types.SimpleNamespace(target_dtype=TYPES[target], block_size=block),
        weight=tensor,
        scale_inv=as_torch(scales),
        full_tensor_shape=tensor.shape,
        slice_info=((0, blocks[0]), (0, blocks[1]), slice(0, shape[0]), slice(0, shape[1])),
    )
    same(values.scaled(weight, scales, target, (block, block)), want)


@pytest.mark.parametrize("target", TARGETS)
def test_mxfp4_values(target):
    """As the reader gives them: [E, R, G * 32]."""
    rng = np.random.default_rng(4)
    blocks, _ = values.mxfp4_tensors(rng, "x", 2, 256, 3).values()
    scales = values.from_bits("U8", (2, 256, 3), np.arange(2 * 256 * 3) % 256)
    request = types.SimpleNamespace(storage_offsets=[0, 0, 0], lengths=[2, 256, 96])
    want = Reader._dequantize_tensor_mxfp4(
        types.SimpleNamespace(target_dtype=TYPES[target]),
        blocks=as_torch(blocks), scales=as_torch(scales), req=request, group_start=0, offset_in_first_group=0,
    )  # fmt: skip
    got = values.mxfp4(blocks, scales, target)
    transposed = values.bits_of(got).reshape(got.shape).transpose(0, 2, 1)
    same(values.from_bits(target, transposed.shape, transposed), want)


@pytest.mark.parametrize("target", ["F32", "BF16"])
def test_mxfp4_layout(target):
    """As transformers makes a gpt-oss model's weights of them: [E, G * 32, R]."""
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    rng = np.random.default_rng(5)
    blocks, scales = values.mxfp4_tensors(rng, "x", 2, 5, 3).values()
    want = mxfp4.convert_moe_packed_tensors(as_torch(blocks), as_torch(scales), dtype=TYPES[target])
    same(values.mxfp4(blocks, scales, target), want)
