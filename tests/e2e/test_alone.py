"""One process that no launcher has started: nothing of MPI is loaded, no MPI function, nothing of MPI's in the environment, the same result as under mpirun."""

import glob
import json
import os
import re
import subprocess
import time

import oracle
import pytest
import values
from runner import SHARDWELD, ok, run, show

# Whatever the program would call of MPI, and what would set the environment up for it, ends it.
FORBIDDEN = """
int dprintf(int, const char *, ...);
void abort(void);
#define NO(name) void name(void); void name(void) { dprintf(2, #name " was called\\n"); abort(); }
"""


def undefined(path):
    """What a program or library wants of MPI."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", path], check=True, capture_output=True, text=True).stdout
    return re.findall(r" U (P?MPI_\w+)$", listed, re.M)


@pytest.fixture(scope="module")
def no_mpi(tmp_path_factory):
    """The environment in which a call of MPI is the end."""
    names = [name for layer in glob.glob(os.path.join(os.path.dirname(SHARDWELD), "libshardweld-mpi-*.so")) for name in undefined(layer)]
    if not names:
        pytest.skip("there is no layer")
    assert not undefined(SHARDWELD) and "MPI_Init_thread" in names and "MPI_File_open" in names and "MPI_T_init_thread" in names
    lib = tmp_path_factory.mktemp("preload") / "no_mpi.so"
    text = FORBIDDEN + "\n".join(f"NO({name})" for name in {*names, "setenv", "putenv"})
    subprocess.run(["cc", "-shared", "-fPIC", "-fno-builtin", "-o", lib, "-xc", "-"], input=text, check=True, text=True)
    return {"LD_PRELOAD": str(lib)}


def test_the_trap_catches(sharded, no_mpi):
    """What is started as a rank does call MPI."""
    _, src, out = sharded
    result = run(["consolidate", src, out], env={**no_mpi, "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"})
    assert result.status < 0 and "setenv was called" in result.stderr, show(result)


WELDS = [
    [],
    ["--assign", "owner"],
    ["--assign", "band", "--buffer-size", "4KiB"],
    ["--node-local", "--expect-shards", "3"],
    ["--hint", "striping_factor=4", "--hint", "romio_cb_write=enable"],
    ["--no-sync", "--progress", "always"],
    ["--verify", "--cast-dtype", "fp64"],
    ["--dry-run"],
]


@pytest.mark.parametrize("options", WELDS, ids=" ".join)
def test_consolidate(tmp_path, make, no_mpi, options):
    src = tmp_path / "in"
    ckpt = make(src, ranks=3)
    here, there = tmp_path / "here", tmp_path / "there"
    mine = run(["consolidate", *options, "--report", tmp_path / "r", src, here], env=no_mpi)
    assert mine.status == 0, show(mine)
    if "--dry-run" in options:
        assert mine.stdout == run(["consolidate", *options, src, there], np=1).stdout and not here.exists()
    else:
        want = values.cast_all(ckpt.tensors, "F64") if "--cast-dtype" in options else ckpt.tensors
        oracle.same(here, oracle.consolidated(want, oracle.numbered(dict.fromkeys(want, 1))))
    got = json.loads((tmp_path / "r").read_text())
    assert (got["io"], got["transport"], got["ranks"]) == ("posix", {}, 1)


def test_the_other_commands(tmp_path, sharded, no_mpi):
    _, src, out = sharded
    ok(run(["consolidate", src, out], env=no_mpi))
    for args in (
        ["verify", "--assign", "owner", "--report", tmp_path / "r", src, out],
        ["inspect", src],
        ["inspect", "--json", "--svg", tmp_path / "s.svg", next(src.glob("shard-*"))],
        ["reshard", "--mesh", "2x2", "--placements", "shard0,shard1", "--report", tmp_path / "r", src, tmp_path / "again"],
    ):
        result = run(args, env=no_mpi)
        assert result.status == 0, show(result)
    assert json.loads((tmp_path / "r").read_text())["io"] == "posix"


@pytest.mark.parametrize(
    "args, status", [(["consolidate"], 2), (["verify", "/nonexistent", "/nonexistent"], 3), (["consolidate", "/proc", "/proc/none"], 4)]
)
def test_errors(no_mpi, args, status):
    result = run(args, env=no_mpi)
    assert result.status == status and result.stderr.startswith("shardweld: error: "), show(result)


def test_nothing_of_mpi_is_loaded(sharded):
    _, src, out = sharded
    result = run(["consolidate", src, out], env={"LD_DEBUG": "files"})
    assert result.status == 0 and "libjansson" in result.stderr and "mpi" not in result.stderr, show(result)


def best(args, times=20):
    took = []
    for _ in range(times):
        begun = time.monotonic()
        assert run(args).status == 0
        took.append(time.monotonic() - begun)
    return min(took)


def test_inspect_answers_at_once(tmp_path, make):
    """30 ms, or as long as this machine takes to start the program at all."""
    make(tmp_path / "in")
    path = next((tmp_path / "in").glob("shard-*"))
    assert best(["inspect", path]) < max(0.03, 2 * best(["--help"]))
