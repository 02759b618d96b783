"""The program built with MPICH: under its own mpiexec, alone, and under launchers that it does not understand.

`make check-mpich` says which program and which mpiexec; mpirun is Open MPI's.
"""

import json
import os
import shutil
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import oracle  # noqa: E402
from runner import errors, fails, ok, run, show, SHARDWELD  # noqa: E402

OPEN_MPI = shutil.which("mpirun.openmpi") or shutil.which("mpirun")


@pytest.fixture
def ckpt(tmp_path):
    """Input directory, output directory, and what the output must be."""
    rng = np.random.default_rng(3)
    tensors = {f"layers.{i}.weight": oracle.random_tensor(rng, dtype, (37 + i, 24)) for i, dtype in enumerate(("F32", "BF16", "I64", "U8"))}
    models = {name: 1 + i % 2 for i, name in enumerate(tensors)}
    boxes = {n: oracle.boxes_of(t.shape, (3,), (i % 2,)) for i, (n, t) in enumerate(tensors.items())}
    oracle.write_sharded(str(tmp_path / "in"), tensors, boxes, models)
    return tmp_path / "in", tmp_path / "out", oracle.consolidated(tensors, oracle.numbered(models))


@pytest.mark.parametrize("np_", [None, 1, 2, 3])
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_weld(ckpt, tmp_path, np_, assign):
    src, out, want = ckpt
    ok(run(["consolidate", "--assign", assign, "--buffer-size", "4KiB", "--report", tmp_path / "r", src, out], np=np_))
    assert oracle.difference(oracle.tree(out), want) == ""
    assert json.loads((tmp_path / "r").read_text())["ranks"] == (np_ or 1)
    ok(run(["verify", src, out], np=np_))


def test_the_transport_is_told(ckpt, tmp_path):
    """As an open file shows it; aggregation is not followed, and a file of hints brings none."""
    src, out, want = ckpt
    (tmp_path / "hints").write_text("romio_cb_write enable\nromio_no_indep_rw true\n")
    args = ["consolidate", "--overwrite", "--report", tmp_path / "r", src, out]
    ok(run(args, np=2, env={"ROMIO_HINTS": str(tmp_path / "hints")}))
    got = json.loads((tmp_path / "r").read_text())
    assert got["io"] == "romio" and got["transport"]["romio_cb_write"] == "disable" and got["transport"]["romio_no_indep_rw"] == "false"
    result = run([*args, "--hint", "romio_cb_write=enable"], np=2)
    assert result.status == 0 and "the hint romio_cb_write=enable" in result.stderr, show(result)
    assert json.loads((tmp_path / "r").read_text())["io"] == "posix"
    assert oracle.difference(oracle.tree(out), want) == ""


def test_an_error_has_one_message_and_its_status(ckpt):
    src, out, _ = ckpt
    (src / oracle.shard_name(2, 1, 2)).unlink()
    fails(run(["consolidate", src, out], np=2), 3, "layers.")
    assert not out.exists()


@pytest.mark.parametrize("options", [["--help"], ["--version"]], ids=str)
def test_help_is_said_once(options):
    result = run(options, np=2)
    assert result.status == 0 and result.stderr == ""
    assert result.stdout == run(options).stdout


def refused(result, *words):
    """Once on each machine, because none knows of the others."""
    assert result.status == 2 and errors(result), show(result)
    for word in ("one of 2 processes of ", "MPICH's 'mpiexec -n 2 shardweld", "srun --mpi=pmi2", "env -u ", *words):
        assert word in errors(result)[0], show(result)


def test_the_mpirun_of_open_mpi(ckpt):
    """It would start two programs that know nothing of each other, over one OUTPUT_DIR."""
    src, out, want = ckpt
    assert OPEN_MPI, "scripts/setup installs Open MPI"
    args = ["consolidate", src, out]
    refused(run(args, outer=[OPEN_MPI, "-n", "2"]), "Open MPI's mpirun (OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE)", "libshardweld-mpi-openmpi.so is neither in")
    assert not out.exists()
    ok(run(args, outer=[OPEN_MPI, "-n", "1"]))
    assert oracle.difference(oracle.tree(out), want) == ""


@pytest.mark.parametrize("pmix", [{}, {"PMIX_RANK": "1", "PMIX_NAMESPACE": "slurm.pmix.1.0"}], ids=["none", "pmix"])
def test_srun_of_another_kind(ckpt, pmix):
    """With --mpi=pmix only MPI_Init can tell that it makes a job of one of each process: Debian's MPICH does not speak PMIx."""
    src, out, _ = ckpt
    result = run(["consolidate", src, out], env={"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", **pmix})
    refused(result, "srun --mpi=pmix (" if pmix else "srun without PMI (")
    assert not out.exists()


def test_this_is_a_build_with_mpich():
    with open(SHARDWELD, "rb") as f:
        assert b"libmpich" in f.read()
