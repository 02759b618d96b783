"""Arrays as the library sees them: an address, a dtype, a shape, strides in bytes.

numpy and torch are imported only where one of their arrays is asked for; what is handed in brings its own module along.

What numpy has no dtype for is read as ml_dtypes has it when that package is installed, else as the bytes they are: BF16 as uint16, FP8 as
uint8. Elements of less than a byte (F4, F6) are uint8 with the last dimension counted in bytes, or one dimension of bytes where rows do not end
on one; torch's float4_e2m1fn_x2 is F4 with the last dimension counted in pairs.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, overload

from ._errors import UsageError

#: bits of an element
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
#: dtype of a Memory that takes packed elements of any
BYTES = "bytes"
FLOATING = ("F64", "F32", "F16", "BF16")
_TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64", "BOOL": "bool",
    "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu", "F4": "float4_e2m1fn_x2",
}  # fmt: skip
# Those of numpy itself, then those of ml_dtypes, all by numpy's names.
_NUMPY = {n: t for n, t in _TORCH.items() if n in ("F64", "F32", "F16", "C64", "BOOL") or n[0] in "UI"}
_EXTRA = {n: t for n, t in _TORCH.items() if n == "BF16" or n.startswith("F8_")}
_FROM_NAME = {t: n for n, t in _TORCH.items()} | {"half": "F16", "float": "F32", "double": "F64"}
_FROM_NAME |= {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp64": "F64"}


@dataclass(frozen=True)
class Box:
    """A part of a tensor that this process holds, for save(), or that load() fills (into).

        >>> import numpy, shardweld
        >>> rows = numpy.zeros((2, 4), "uint16")
        >>> shardweld.Box(rows, offsets=(6, 0), global_shape=(8, 4), dtype="BF16").offsets
        (6, 0)

    Attributes:
        data: the part: a numpy array or a torch tensor, contiguous or not
        offsets: where it begins in the whole tensor, in elements, outermost first; None: at 0
        global_shape: of the whole tensor, in elements; None: the part is the whole
        dtype: what the bytes are, where the array's own dtype does not tell (raw BF16 as uint16: "BF16"); None: the array's own
    """

    data: Any
    offsets: Sequence[int] | None = None
    global_shape: Sequence[int] | None = None
    dtype: str | None = None


class Memory(NamedTuple):
    """Where elements lie.

    Attributes:
        keep: owns the memory
        address: of the first element
        dtype: as safetensors spells it
        shape: in elements of that dtype
        strides: in bytes; None: packed, as elements of less than a byte always are
        room: bytes that there are, where it is not what the shape says
    """

    keep: Any
    address: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    room: int = 0

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BITS[self.dtype] // 8

    def part(self, at: Sequence[int], shape: Sequence[int]) -> Memory:
        """The box of it that begins at `at`."""
        if tuple(shape) == self.shape:
            return self
        if self.strides is None:
            raise UsageError(f"a part of a {self.dtype} array: elements of less than a byte can only be taken whole")
        address = self.address + sum(a * s for a, s in zip(at, self.strides)) if prod(shape) else self.address
        return Memory(self.keep, address, self.dtype, tuple(shape), self.strides)

    def distinct(self) -> bool:
        """Can it be written to: does no byte belong to two elements?"""
        size = BITS[self.dtype] // 8
        for stride, count in sorted((abs(s), n) for s, n in zip(self.strides or (), self.shape) if n > 1):
            if stride < size:
                return False
            size = stride * count
        return True


def numbers(values: Any, what: str) -> tuple[int, ...]:
    """Sizes or offsets, also numpy's, as C can take them."""
    out = tuple(operator.index(v) for v in values)
    if any(not 0 <= v < 1 << 63 for v in out):
        raise UsageError(f"{what} {list(out)}: expected numbers from 0")
    return out


def packed(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of an array without gaps, outermost first."""
    out = []
    for n in reversed(shape):
        out.append(itemsize)
        itemsize *= max(n, 1)
    return tuple(reversed(out))


@overload
def parse_dtype(dtype: None) -> None: ...
@overload
def parse_dtype(dtype: Any) -> str: ...
def parse_dtype(dtype: Any) -> str | None:
    """A dtype as safetensors spells it, from "F32", "float32", "fp32", torch.float32, numpy.float32. None stays None.

    Raises UsageError for what safetensors cannot hold.
    """
    if dtype is None:
        return None
    text = dtype if isinstance(dtype, str) else str(dtype)
    text = text.removeprefix("torch.")
    name = text if text in BITS else _FROM_NAME.get(text)
    if name is None and not isinstance(dtype, str):
        try:
            name = _FROM_NAME.get(import_numpy().dtype(dtype).name)
        except (TypeError, ImportError):
            pass
    if name is None:
        raise UsageError(f"dtype {dtype!r} is none that safetensors has")
    return name


@functools.lru_cache(maxsize=None)
def import_numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError as e:
        raise ImportError("this needs numpy; framework='torch' does without") from e


def import_torch() -> Any:
    return importlib.import_module("torch")


def is_torch(value: Any) -> bool:
    """A torch tensor? Without importing torch: who holds one has done so."""
    torch = sys.modules.get("torch")
    return torch is not None and hasattr(torch, "Tensor") and isinstance(value, torch.Tensor)


def is_elsewhere(value: Any) -> bool:
    """A torch tensor that is not in the host's memory? Raises UsageError for one that is nowhere."""
    if not is_torch(value) or value.device.type == "cpu":
        return False
    if value.device.type == "meta":
        raise UsageError("a tensor on the meta device has no values")
    return True


def is_dtensor(value: Any) -> bool:
    return is_torch(value) and hasattr(value, "device_mesh") and hasattr(value, "placements")


def is_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


# ---- torch ------------------------------------------------------------------------------------------------------------


def torch_dtype(dtype: str) -> Any:
    """torch's dtype, uint8 where it has none."""
    torch = import_torch()
    return getattr(torch, _TORCH.get(dtype, "uint8"), torch.uint8)


def torch_stored(dtype: str, shape: Sequence[int]) -> tuple[Any, tuple[int, ...]]:
    """(torch's dtype, shape) of the tensor that holds elements of `dtype`; uint8 where rows do not end on a byte."""
    stored = stored_shape(dtype, shape)
    return torch_dtype(dtype if len(stored) == len(shape) else "U8"), stored


def _from_torch_dtype(dtype: Any) -> str:
    name = _FROM_NAME.get(str(dtype)[6:])
    if name is None:
        raise UsageError(f"dtype {dtype} is none that safetensors has")
    return name


def torch_memory(tensor: Any) -> Memory:
    """Of a tensor on the CPU. Raises UsageError for one that is elsewhere or has no strides (sparse, meta)."""
    torch = import_torch()
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise UsageError(f"a tensor on {tensor.device} with layout {tensor.layout}: expected a strided one on the cpu")
    dtype = _from_torch_dtype(tensor.dtype)
    shape, size = tuple(tensor.shape), tensor.element_size()
    if BITS[dtype] < 8:
        if not tensor.is_contiguous():
            raise UsageError(f"a {dtype} tensor that is not contiguous: elements of less than a byte must be packed")
        return Memory(tensor, tensor.data_ptr(), dtype, shape[:-1] + (shape[-1] * 2,) if shape else shape, None)
    return Memory(tensor, tensor.data_ptr(), dtype, shape, tuple(s * size for s in tensor.stride()))


def host_tensor(tensor: Any) -> Any:
    """The tensor's values in plain strided memory of this host: itself, or a copy where it lies elsewhere or is a lazy conjugate."""
    torch = import_torch()
    is_elsewhere(tensor)
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UsageError(f"a tensor with layout {tensor.layout} and dtype {tensor.dtype}: expected a plain strided one")
    tensor = tensor.detach()
    return tensor.cpu().resolve_conj().resolve_neg()


# ---- numpy ------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def numpy_dtype(dtype: str) -> Any:
    """numpy's dtype, that of ml_dtypes, or the unsigned integer of the same size."""
    numpy = import_numpy()
    if dtype in _NUMPY:
        return numpy.dtype(_NUMPY[dtype])
    if dtype in _EXTRA:
        try:
            return numpy.dtype(getattr(importlib.import_module("ml_dtypes"), _EXTRA[dtype]))
        except (ImportError, AttributeError):
            pass
    return numpy.dtype("uint16" if BITS[dtype] == 16 else "uint8")


def numpy_memory(array: Any) -> Memory:
    """Of an array or a numpy scalar."""
    array = import_numpy().asarray(array)
    dtype = _FROM_NAME.get(array.dtype.name)
    if dtype is None:
        raise UsageError(f"dtype {array.dtype} is none that safetensors has")
    if not array.dtype.isnative:
        raise UsageError(f"dtype {array.dtype}: expected the byte order of this machine")
    return Memory(array, array.ctypes.data, dtype, array.shape, array.strides)


# ---- both -------------------------------------------------------------------------------------------------------------


def _number_memory(number: Any) -> Memory:
    """Of a Python number: BOOL, I64 or F64."""
    dtype, kind = next(k for t, k in _NUMBERS if isinstance(number, t))
    if dtype == "I64" and not -(1 << 63) <= number < 1 << 63:
        raise UsageError(f"{number} does not fit into 64 bits")
    held = kind(number)
    return Memory(held, ctypes.addressof(held), dtype, (), ())


_NUMBERS = ((bool, ("BOOL", ctypes.c_bool)), (int, ("I64", ctypes.c_int64)), (float, ("F64", ctypes.c_double)))


def memory_of(value: Any, dtype: str | None = None) -> Memory:
    """Of an array, a tensor or a Python number (bool, int: I64, float: F64), which becomes a tensor without dimensions.

    `dtype` says what the bytes are when the array's own dtype does not.
    """
    if is_torch(value):
        memory = torch_memory(host_tensor(value))
    elif is_numpy(value):
        memory = numpy_memory(value)
    elif isinstance(value, (bool, int, float)):
        memory = _number_memory(value)
    else:
        raise UsageError(f"a value of type {type(value).__name__}: expected an array, a tensor or a number")
    return memory if dtype is None else reinterpret(memory, parse_dtype(dtype))


def shape_of(value: Any, dtype: str | None = None) -> tuple[int, ...]:
    """In elements, as safetensors counts those of less than a byte; without looking at where they lie."""
    shape = tuple(getattr(value, "shape", ()))
    held = parse_dtype(value.dtype) if is_torch(value) else None
    bits = BITS[parse_dtype(dtype) or held or "U8"]
    if not shape or bits >= 8:
        return shape
    return (*shape[:-1], shape[-1] * 8 // bits)


def reinterpret(memory: Memory, dtype: str | None) -> Memory:
    """The same bytes as elements of `dtype`, of the same size or packed into bytes."""
    if dtype is None or memory.dtype == dtype:
        return memory
    if BITS[dtype] == BITS[memory.dtype]:
        return memory._replace(dtype=dtype)
    shape, strides = memory.shape, memory.strides
    if BITS[dtype] < 8 == BITS[memory.dtype] and shape and strides == packed(shape, 1) and shape[-1] * 8 % BITS[dtype] == 0:
        return memory._replace(dtype=dtype, shape=shape[:-1] + (shape[-1] * 8 // BITS[dtype],), strides=None)
    raise UsageError(f"the bytes of a {memory.dtype} array of shape {list(shape)} cannot be taken as {dtype}")


def stored_shape(dtype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Of the bytes that hold elements of less than a byte."""
    bits = BITS[dtype]
    if bits >= 8:
        return tuple(shape)
    if shape and shape[-1] * bits % 8 == 0:
        return (*shape[:-1], shape[-1] * bits // 8)
    return (-(-prod(shape) * bits // 8),)


def allocate(framework: str, dtype: str, shape: Sequence[int]) -> tuple[Any, Memory]:
    """A new array for a box, not initialised, and where its elements go."""
    if framework == "torch":
        kind, stored = torch_stored(dtype, shape)
        array = import_torch().empty(stored, dtype=kind)
        address = array.data_ptr()
    elif framework == "numpy":
        array = import_numpy().empty(stored_shape(dtype, shape), numpy_dtype(dtype))
        address = array.ctypes.data
    else:
        raise UsageError(f"framework {framework!r}: expected 'numpy' or 'torch'")
    bits = BITS[dtype]
    return array, Memory(array, address, dtype, tuple(shape), packed(shape, bits // 8) if bits >= 8 else None)


def over(framework: str, buffer: Any, at: int, dtype: str, shape: Sequence[int]) -> Any:
    """An array over the bytes of a buffer from `at` on, which it keeps."""
    if framework == "torch":
        kind, stored = torch_stored(dtype, shape)
        return import_torch().frombuffer(buffer, dtype=kind, count=prod(stored), offset=at).reshape(stored)
    stored = stored_shape(dtype, shape)
    return import_numpy().frombuffer(buffer, numpy_dtype(dtype), prod(stored), at).reshape(stored)


def parse_device(device: Any) -> Any:
    """A torch.device, from itself, "cuda:0" or a number. Raises UsageError for what is none."""
    try:
        return import_torch().device(device)
    except (RuntimeError, TypeError) as e:
        raise UsageError(f"device {device!r}: {str(e).splitlines()[0]}") from None


def target_memory(out: Any, saved: str) -> Memory:
    """Where to read to, for an array, a tensor on the CPU, or bytes that can be written to (taken as packed elements as saved).

    An unsigned integer array of the right size takes the bytes of a dtype that numpy lacks.
    """
    if is_torch(out):
        memory = torch_memory(out.detach())
    elif is_numpy(out):
        memory = numpy_memory(out)
        if not out.flags.writeable:
            raise UsageError("out cannot be written to")
    else:
        view = memoryview(out).cast("B")
        buffer = (ctypes.c_char * len(view)).from_buffer(view)
        return Memory((out, buffer), ctypes.addressof(buffer), BYTES, (), None, len(view))
    if memory.dtype in ("U8", "U16") and saved not in _NUMPY and BITS[saved] == BITS[memory.dtype]:
        memory = memory._replace(dtype=saved)
    if not memory.distinct():
        raise UsageError("out has elements that share memory")
    return memory
