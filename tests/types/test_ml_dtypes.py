"""What numpy has no dtype for: with ml_dtypes an array of its dtypes, without it the bytes (tests/python/test_io.py)."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
os.environ["SHARDWELD_LIBRARY"] = os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build"))

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from shardweld import UsageError, load, save  # noqa: E402

NAMES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, mmap, tmp_path):
    """Saved as such, loaded as such; of a box too."""
    values = np.array([[1, 2, 4], [0.5, 8, 16]], np.float32).astype(getattr(ml_dtypes, name))
    save(tmp_path / "out", {"w": values})
    got = load(tmp_path / "out", mmap=mmap)["w"]
    assert got.dtype == values.dtype and got.tolist() == values.tolist() and "torch" not in sys.modules
    assert load(tmp_path / "out", box=((0, 1), (2, 2)), mmap=mmap)["w"].tolist() == values[:, 1:].tolist()


def test_casts(tmp_path):
    """By the library; ml_dtypes' dtype is a name for it."""
    save(tmp_path / "out", {"w": np.arange(6, dtype=np.float32)})
    assert load(tmp_path / "out", dtype=ml_dtypes.bfloat16)["w"].dtype == ml_dtypes.bfloat16
    with pytest.raises(UsageError):
        load(tmp_path / "out", dtype=ml_dtypes.float8_e5m2)
    into = np.zeros(6, ml_dtypes.bfloat16)
    assert load(tmp_path / "out", into={"w": into})["w"] is into and into.tolist() == [0, 1, 2, 3, 4, 5]
