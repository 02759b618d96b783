"""What torch_checkpointing saves, welded, is what save_file writes of the full tensors: its own saves, made anew."""

import os
import subprocess
import sys

import pytest
from runner import ROOT, ok, run
from safetensors.torch import load_file

pytest.importorskip("torch_checkpointing")
MAKE = os.path.join(ROOT, "tests", "golden", "make_tc.py")
CASES = ("tc_train", "tc_nested", "tc_slices", "tc_torch")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    where = tmp_path_factory.mktemp("tc")
    done = subprocess.run([sys.executable, MAKE, where], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return where


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("np", [None, 1, 2, 3, 5])
def test_weld(saved, case, np, tmp_path):
    want = (saved / case / "out" / "model.safetensors").read_bytes()
    for assign in ("band", "owner"):
        words = ["consolidate", "-q", "--single-file", "--assign", assign, "--buffer-size", "4KiB"]
        ok(run([*words, saved / case / "in", tmp_path / assign], np=np))
        assert (tmp_path / assign / "model.safetensors").read_bytes() == want
    ok(run(["verify", "-q", saved / case / "in", tmp_path / "band"], np=np))


def test_the_optimizer_when_it_is_asked_for(saved, tmp_path):
    ok(run(["consolidate", "-q", "--include", "optimizer.*", saved / "tc_nested" / "in", tmp_path / "out"]))
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert "optimizer.state.embed.weight.exp_avg" in got and all(name.startswith("optimizer.") for name in got)
    ok(run(["consolidate", "-q", "--include", "optimizer.*", saved / "tc_torch" / "in", tmp_path / "by_torch"]))
    got = load_file(tmp_path / "by_torch" / "model.safetensors")
    assert set(got) == {"optimizer.state.0.exp_avg", "optimizer.state.1.exp_avg"}
