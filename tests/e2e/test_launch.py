"""Launchers as they are, beyond the variables that test_cli.py sets: another MPI's mpiexec, and a machine without ssh."""

import os
import shutil
import subprocess

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


# The nth message of rank 1 is one that MPI refuses.
BREAKING = """
#include <mpi.h>
#include <stdlib.h>
static int fails(void)
{
    static int calls;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return rank && atoi(rank) == 1 && ++calls == atoi(getenv("BREAK_AT"));
}
int MPI_Bcast(void *b, int n, MPI_Datatype t, int root, MPI_Comm c) { return PMPI_Bcast(b, fails() ? -1 : n, t, root, c); }
int MPI_Allreduce(const void *s, void *r, int n, MPI_Datatype t, MPI_Op o, MPI_Comm c) { return PMPI_Allreduce(s, r, fails() ? -1 : n, t, o, c); }
int MPI_Iallreduce(const void *s, void *r, int n, MPI_Datatype t, MPI_Op o, MPI_Comm c, MPI_Request *q) {
    return PMPI_Iallreduce(s, r, fails() ? -1 : n, t, o, c, q); }
int MPI_Allgather(const void *s, int n, MPI_Datatype t, void *r, int m, MPI_Datatype u, MPI_Comm c) {
    return PMPI_Allgather(s, fails() ? -1 : n, t, r, m, u, c); }
"""


@pytest.fixture(scope="module")
def breaking(tmp_path_factory):
    lib = tmp_path_factory.mktemp("preload") / "breaking.so"
    subprocess.run(["mpicc", "-shared", "-fPIC", "-o", lib, "-xc", "-"], input=BREAKING, check=True, text=True)
    return lib


@pytest.mark.parametrize("nth", [1, 2, 5, 12, 20, 30])
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_messages_that_do_not_get_through(dirs, make, breaking, nth, assign):
    """Nothing can be agreed upon any more: the rank that sees it says what MPI says, before it ends the others."""
    src, out = dirs
    make(src)
    prefix = ["env", f"LD_PRELOAD={breaking}", f"BREAK_AT={nth}"]
    result = run(["consolidate", "--assign", assign, src, out], np=3, prefix=prefix, timeout=30)
    assert result.status != 0 and result.stdout == "", show(result)
    assert len(errors(result)) == 1 and "communication between the ranks failed: MPI_ERR_COUNT" in errors(result)[0], show(result)


def test_24_ranks_on_few_cores(dirs, make):
    src, out = dirs
    ckpt = make(src)
    ok(run(["consolidate", src, out], np=24))
    same(out, ckpt.expect())
