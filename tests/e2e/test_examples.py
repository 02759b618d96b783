"""The programs in examples/ do what they say."""

import os

import numpy as np
import oracle
import pytest
import runner
from saving import BUILD, start


def example(name, *args, np=None):
    return start(os.path.join(BUILD, "examples", name), *args, np=np)


@pytest.mark.parametrize("np_", [None, 1, 4, 7])
def test_save_sharded(tmp_path, np_):
    rows, columns = 33, 26
    got = example("save_sharded", tmp_path / "out", rows, columns, np=np_)
    assert got.status == 0 and "33 x 26" in got.stdout and got.stderr == "", runner.show(got)
    matrix = np.arange(rows * columns, dtype="<f4").tobytes()
    tensors = {"matrix": oracle.Tensor("F32", (rows, columns), matrix), "bias": oracle.Tensor("F64", (3,), np.array([0.5, 1.5, 2.5]).tobytes())}
    assert oracle.tree(tmp_path / "out") == {oracle.SINGLE: oracle.serialize(tensors)}


def test_usage():
    assert example("save_sharded").status == 2
