"""The Python package against the library that was built; tests without torch. They share the oracle of tests/e2e."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "e2e"), HERE, os.path.join(ROOT, "python")]
sys.dont_write_bytecode = True
os.environ["SHARDWELD_LIBRARY"] = os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build"))

import numpy as np  # noqa: E402
import oracle  # noqa: E402
import pytest  # noqa: E402
import welding  # noqa: E402


@pytest.fixture
def rng():
    return np.random.default_rng(20240511)


@pytest.fixture
def checkpoint(tmp_path, rng):
    """A small sharded checkpoint of four ranks in tmp_path/in, with an expectation."""
    return welding.Checkpoint(tmp_path / "in", rng)


@pytest.fixture
def tree():
    return oracle.tree
