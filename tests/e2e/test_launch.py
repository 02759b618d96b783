"""Launchers as they are, beyond the variables that test_cli.py sets: another MPI's mpiexec, and a machine without ssh."""

import os
import shutil

import oracle
import pytest
from runner import MPIRUN, errors, ok, run, show


def same(out, want):
    assert oracle.difference(oracle.tree(out), want) == ""


@pytest.mark.skipif(not shutil.which("mpiexec.mpich"), reason="needs MPICH's mpiexec (scripts/setup --dev)")
def test_the_mpiexec_of_another_mpi(dirs, make):
    src, out = dirs
    ckpt = make(src)
    result = run(["consolidate", src, out], outer=["mpiexec.mpich", "-n", "3"])
    assert result.status == 2 and result.stdout == "", show(result)
    for words in ("one of 3 processes of the mpirun of another MPI (PMI_RANK, PMI_SIZE)", "Open MPI's 'mpirun -n 3 shardweld", "env -u PMI_RANK -u PMI_SIZE"):
        assert words in errors(result)[0], show(result)
    assert not out.exists()
    ok(run(["consolidate", src, out], outer=["mpiexec.mpich", "-n", "1"]))
    same(out, ckpt.expect())


@pytest.fixture
def no_ssh(tmp_path):
    """A PATH with the launcher and its helpers, and neither ssh nor rsh."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in (MPIRUN[0], "orted", "prted", "sh", "env"):
        if shutil.which(name):
            (path / os.path.basename(name)).symlink_to(shutil.which(name))
    return str(path)


def test_alone_without_ssh(dirs, make, no_ssh):
    """One process starts no daemon, so it needs nothing to start one with."""
    src, out = dirs
    ckpt = make(src)
    ok(run(["consolidate", src, out], env={"PATH": no_ssh}, timeout=30))
    same(out, ckpt.expect())


def test_mpirun_without_ssh(dirs, make, no_ssh):
    """Open MPI 4.1 looks for ssh even where it has no other machine to start anything on, unless it is told that there is none."""
    src, out = dirs
    ckpt = make(src)
    ok(run(["consolidate", src, out], np=3, env={"PATH": no_ssh, "OMPI_MCA_plm_rsh_agent": ""}, timeout=30))
    same(out, ckpt.expect())


def test_24_ranks_on_few_cores(dirs, make):
    src, out = dirs
    ckpt = make(src)
    ok(run(["consolidate", src, out], np=24))
    same(out, ckpt.expect())
