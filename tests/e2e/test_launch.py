"""Launchers as they are and layers of MPI, beyond the variables that test_cli.py sets: another MPI's mpiexec, and a machine without ssh."""

import json
import os
import re
import shutil
import subprocess

import pytest
from oracle import same
from runner import MPIRUN, SHARDWELD, Result, environment, errors, fails, ok, run, show

HERE, BESIDE = os.path.dirname(SHARDWELD), "libshardweld-mpi-openmpi.so"


@pytest.mark.skipif(not shutil.which("mpiexec.mpich"), reason="needs MPICH's mpiexec (scripts/setup --dev)")
def test_the_mpiexec_of_another_mpi(sharded):
    ckpt, src, out = sharded
    ours = {"SHARDWELD_MPI": "openmpi"}
    result = run(["consolidate", src, out], env=ours, outer=["mpiexec.mpich", "-n", "3"])
    words = ("one of 3 processes of an mpiexec of MPICH's kind (PMI_RANK, PMI_SIZE)", "layer openmpi", "Open MPI's 'mpirun -n 3 shardweld", "env -u PMI_RANK -u PMI_SIZE")
    fails(result, 2, *words)
    assert not out.exists()
    ok(run(["consolidate", src, out], env=ours, outer=["mpiexec.mpich", "-n", "1"]))
    same(out, ckpt.expect())


@pytest.mark.parametrize("wish", ["none", "abi", "openmp"])
def test_the_mpi_that_is_asked_for_is_the_one(sharded, wish):
    """Never three runs on one directory."""
    _, src, out = sharded
    says = {"none": "SHARDWELD_MPI is none", "abi": "abi.so", "openmp": "expected openmpi, mpich, abi, none or a path"}
    fails(run(["consolidate", src, out], np=3, env={"SHARDWELD_MPI": wish}), 2, "one of 3 processes of Open MPI's mpirun", says[wish])
    assert not out.exists()


def test_the_one_who_speaks_may_be_late(sharded):
    """The launcher ends all others when the first process leaves: those who say nothing wait for the one that does."""
    _, src, out = sharded
    late = ["sh", "-c", '[ "$OMPI_COMM_WORLD_RANK" != 0 ] || sleep 0.5; exec "$@"', "late"]
    fails(run(["consolidate", src, out], np=3, env={"SHARDWELD_MPI": "none"}, prefix=late), 2, "SHARDWELD_MPI is none")
    assert not out.exists()


@pytest.fixture
def elsewhere(tmp_path):
    """The program in a directory of its own, to which a test may bring layers."""
    place = tmp_path / "place"
    place.mkdir()
    shutil.copy2(SHARDWELD, place / "shardweld")
    return place


def weld_there(place, src, out, env=None):
    words = [*MPIRUN, "-np", "3", str(place / "shardweld"), "consolidate", src, out]
    done = subprocess.run(words, env=environment(env), capture_output=True, text=True, timeout=60, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def test_without_a_layer(sharded, elsewhere):
    ckpt, src, out = sharded
    fails(weld_there(elsewhere, src, out), 2, f"libshardweld-mpi-openmpi.so is neither in {elsewhere}", "layers are here for: none", "run it as one process")
    assert not out.exists()
    subprocess.run([elsewhere / "shardweld", "consolidate", src, out], env=environment(), check=True)
    same(out, ckpt.expect())


def test_without_what_the_layer_needs(sharded, elsewhere):
    _, src, out = sharded
    gone, layer = elsewhere / "libgone.so", elsewhere / "libshardweld-mpi-openmpi.so"
    subprocess.run(["cc", "-shared", "-o", gone, "-xc", "-"], input="int gone;", text=True, check=True)
    subprocess.run(["cc", "-shared", "-Wl,--no-as-needed", "-o", layer, gone, "-xc", "-"], input="int here;", text=True, check=True)
    gone.unlink()
    fails(weld_there(elsewhere, src, out), 2, "libgone.so: cannot open shared object file", "layers are here for: openmpi", "load the module of that MPI")
    assert not out.exists()


def test_a_layer_of_another_version(sharded, elsewhere):
    _, src, out = sharded
    text = "const int sw_layer_mpi[1024] = { 1 };"
    subprocess.run(["cc", "-shared", "-o", elsewhere / "libshardweld-mpi-openmpi.so", "-xc", "-"], input=text, text=True, check=True)
    fails(weld_there(elsewhere, src, out), 2, "is of another version of shardweld")
    assert not out.exists()


def test_nothing_is_loaded_from_the_directory_that_it_is_started_in(elsewhere, tmp_path):
    """The program is found in PATH by a name that stands for something else here."""
    (tmp_path / "cwd" / "shardweld").mkdir(parents=True)
    marks = {"PMI_SIZE": "2", "PMI_RANK": "0", "PATH": f"{elsewhere}:{os.environ['PATH']}"}
    for kind in ("openmpi", "mpich", "abi"):
        (tmp_path / "cwd" / f"libshardweld-mpi-{kind}.so").write_bytes(b"planted")
    command = ["sh", "-c", "exec shardweld consolidate in out"]
    done = subprocess.run(command, cwd=tmp_path / "cwd", env=environment(marks), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and f"is neither in {elsewhere} nor in" in done.stderr and "planted" not in done.stderr, done.stderr
    assert f"{tmp_path}/cwd" not in done.stderr


@pytest.mark.parametrize("path", [BESIDE, "libmpi.so.40", "directory"])
def test_a_layer_or_a_library_by_its_path(sharded, elsewhere, path):
    ckpt, src, out = sharded
    listed = subprocess.run(["ldd", os.path.join(HERE, BESIDE)], capture_output=True, text=True, check=True).stdout
    library = re.search(r"libmpi.so.40 => (\S+)", listed)
    if path == BESIDE:
        path = os.path.join(HERE, BESIDE)
    elif not library:
        pytest.skip("the layer names no library")
    else:
        (elsewhere / BESIDE).symlink_to(os.path.join(HERE, BESIDE))
        path = library[1] if path != "directory" else os.path.dirname(library[1])
    done = weld_there(elsewhere, src, out, env={"SHARDWELD_MPI": path})
    assert done.status == 0, show(done)
    same(out, ckpt.expect())


def test_the_report_names_the_layer(sharded, tmp_path):
    _, src, out = sharded
    ok(run(["consolidate", "--report", tmp_path / "r", src, out], np=2))
    got = json.loads((tmp_path / "r").read_text())
    told = run(["--version"]).stdout.rstrip("\n").split(", ")
    assert got["layer"] == "openmpi" and got["mpi"].startswith("Open MPI v")
    assert told[-2:] == ["layer openmpi", got["mpi"]]
    ok(run(["consolidate", "--overwrite", "--report", tmp_path / "r", src, out]))
    got = json.loads((tmp_path / "r").read_text())
    assert (got["layer"], got["mpi"]) == ("none", None)
    assert run(["--version"], env={"SHARDWELD_MPI": "none"}).stdout.endswith(", layer none\n")


@pytest.fixture
def no_ssh(tmp_path):
    """A PATH with the launcher and its helpers, and neither ssh nor rsh."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in (MPIRUN[0], "orted", "prted", "sh", "env"):
        if shutil.which(name):
            (path / os.path.basename(name)).symlink_to(shutil.which(name))
    return str(path)


def test_alone_without_ssh(sharded, no_ssh):
    """One process starts no daemon, so it needs nothing to start one with."""
    ckpt, src, out = sharded
    ok(run(["consolidate", src, out], env={"PATH": no_ssh}, timeout=30))
    same(out, ckpt.expect())


def test_mpirun_without_ssh(sharded, no_ssh):
    """Open MPI 4.1 looks for ssh even where it has no other machine to start anything on, unless it is told that there is none."""
    ckpt, src, out = sharded
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


@pytest.mark.parametrize("nth", [1, 5, 12, 30])
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_messages_that_do_not_get_through(sharded, breaking, nth, assign):
    """Nothing can be agreed upon any more: the rank that sees it says what MPI says, before it ends the others."""
    _, src, out = sharded
    prefix = ["env", f"LD_PRELOAD={breaking}", f"BREAK_AT={nth}"]
    result = run(["consolidate", "--assign", assign, src, out], np=3, prefix=prefix, timeout=30)
    assert result.status != 0 and result.stdout == "", show(result)
    assert len(errors(result)) == 1 and "communication between the ranks failed: MPI_ERR_COUNT" in errors(result)[0], show(result)
