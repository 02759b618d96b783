"""Many files and many boxes are planned in time and memory that grow with their number, no faster.

bench/scale.py does the same at full size: 4,096 files of 1,000 tensors within 30 s and 1.5 GiB for two ranks.
"""

import os
import sys
import time

import catalogue
import pytest
from runner import HERE, run, show


def plan(tmp_path, np):
    """Seconds and bytes that `-n` takes, both for all ranks together."""
    peaks = tmp_path / f"peaks{np}"
    begin = time.monotonic()
    prefix = [sys.executable, os.path.join(HERE, "peak.py"), str(peaks)]
    result = run(["consolidate", "-n", tmp_path / "in", tmp_path / "out"], np=np, prefix=prefix)
    seconds = time.monotonic() - begin
    assert result.status == 0, show(result)
    assert not (tmp_path / "out").exists()
    return seconds, sum(int(line) for line in peaks.read_text().split())


@pytest.mark.parametrize("np", [1, 2])
def test_256_files_of_1000_tensors(tmp_path, np):
    catalogue.make(str(tmp_path / "in"), 256, 1000)
    seconds, memory = plan(tmp_path, np)
    assert seconds <= 10, seconds
    assert memory <= np * (48 << 20) + (96 << 20), memory


def test_a_grid_of_64_by_64(tmp_path):
    catalogue.make_grid(str(tmp_path / "in"), 64, 64)
    seconds, memory = plan(tmp_path, 2)
    assert seconds <= 10, seconds
    assert memory <= 2 * (64 << 20), memory


def test_a_thousand_rows_of_one_tensor(tmp_path):
    catalogue.make(str(tmp_path / "in"), 1000, 1)
    seconds, _ = plan(tmp_path, 2)
    assert seconds <= 5, seconds
