"""Who works together: what the environment says, and what callers give."""

import platform
import sys

import pytest
import ranks
import shardweld
from shardweld import _comm

NAMES = (
    *("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    *("SHARDWELD_MPI", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)


@pytest.fixture
def environment(monkeypatch):
    """environment(NAME=value, ...) and none of the others; MPI is not initialised, but named."""
    monkeypatch.setattr(_comm, "_mpi_world", lambda: "all ranks of the MPI job")

    def set_to(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return set_to


OURS = {"OMPI_COMM_WORLD_RANK": 1, "OMPI_COMM_WORLD_SIZE": 2}


@pytest.mark.parametrize(
    "values, want",
    [
        ({}, "self"),
        (OURS, "mpi"),
        ({"PMIX_RANK": 1}, "mpi"),
        ({"PMI_RANK": 1, "PMI_SIZE": 4}, "mpi"),
        ({"OMPI_COMM_WORLD_RANK": 0, "OMPI_COMM_WORLD_SIZE": 1}, "self"),
        ({"RANK": 0, "WORLD_SIZE": 1}, "self"),
        ({"RANK": 0, "WORLD_SIZE": 2, **OURS}, "mpi"),
        ({"SLURM_PROCID": 0, "SLURM_STEP_NUM_TASKS": 1}, "self"),
        ({"RANK": 0, "WORLD_SIZE": 1, "TORCHELASTIC_RUN_ID": "x", **OURS}, "self"),
    ],
)
def test_who_works(values, want, environment):
    environment(**values)
    with _comm.open_comm() as group:
        assert (group if isinstance(group, str) else group.kind) == {"mpi": "all ranks of the MPI job"}.get(want, want)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"RANK": 1, "WORLD_SIZE": 2}, ["2 processes of torchrun", "init_process_group"]),
        ({"RANK": 1, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "x", **OURS}, ["torchrun"]),
        ({"SLURM_PROCID": 1, "SLURM_STEP_NUM_TASKS": 3}, ["3 processes of srun without PMI", "--mpi=pmix"]),
    ],
)
def test_processes_that_cannot_reach_one_another_are_refused(values, words, environment):
    """Each would write the whole checkpoint (SPEC 4)."""
    environment(**values)
    with pytest.raises(shardweld.UsageError) as caught, _comm.open_comm():
        pass
    assert all(word in str(caught.value) for word in [*words, 'comm="self"'])
    with _comm.open_comm("self") as group:
        assert (group.rank, group.size) == (0, 1)


def test_ranks_without_their_mpi_are_refused(environment):
    environment(PMI_RANK=1, PMI_SIZE=4, SHARDWELD_MPI="none")
    with pytest.raises(shardweld.UsageError) as caught:
        _comm.MpiComm()
    assert all(word in str(caught.value) for word in ("4 processes of an mpiexec", "SHARDWELD_MPI is none", 'comm="self"'))


def test_a_process_alone():
    with _comm.open_comm("self") as group:
        assert group.gather({"a": 1}) == [{"a": 1}]
        group.agree("call", None, {"x": 1})
        with pytest.raises(KeyError):
            group.agree("call", KeyError("x"))
        with _comm.open_comm(group) as same:
            assert same is group


def test_ranks_agree_on_errors_and_arguments(tmp_path):
    program = (
        "import sys, shardweld\n"
        "from shardweld._comm import open_comm\n"
        "def attempt(group, *args):\n"
        "    try:\n"
        "        group.agree(*args)\n"
        "    except Exception as e:\n"
        "        return f'{type(e).__name__}: {e}'\n"
        "with open_comm() as group:\n"
        "    r = group.rank\n"
        "    said = [\n"
        "        attempt(group, 'f', None, {'x': 1}),\n"
        "        attempt(group, 'f', None, {'x': r // 2, 'y': 1}),\n"
        "        attempt(group, 'fg'[r == 1], None, {}),\n"
        "        attempt(group, 'f', None, {'only': None} if r else {}),\n"
        "        attempt(group, 'f', OSError(28, 'no space') if r == 2 else None),\n"
        "    ]\n"
        "    every = group.gather([r, 'x' * 1000 * r])\n"
        "    assert every == [[i, 'x' * 1000 * i] for i in range(3)]\n"
        "    open(f'{sys.argv[1]}/{r}', 'w').writelines(f'{s}\\n' for s in said)\n"
    )
    done = ranks.run([*ranks.mpirun(3), sys.executable, "-c", program, str(tmp_path)])
    assert done.status == 0, done.stderr
    for r in range(3):
        mine = (tmp_path / str(r)).read_text().splitlines()
        assert mine[:4] == [
            "None",
            "UsageError: f: ranks 0 and 2 were called with different arguments: x",
            "UsageError: rank 0 has called f, rank 1 g",
            "UsageError: f: ranks 0 and 1 were called with different arguments: only",
        ]
        where = f"(rank 2 on {platform.node()})"
        assert mine[4] == ("OSError: [Errno 28] no space" if r == 2 else f"SystemFailure: OSError: [Errno 28] no space {where}")


@pytest.fixture
def with_mpi4py():
    """A Python that has it: the one in PATH may not."""
    for python in (sys.executable, "/usr/bin/python3"):
        if ranks.run([python, "-c", "import mpi4py"]).status == 0:
            return python
    pytest.skip("no Python here has mpi4py: scripts/setup --dev installs it")


MPI4PY = (
    "import sys\n"
    "from mpi4py import MPI\n"
    "import shardweld\n"
    "from shardweld._comm import open_comm\n"
    "part = MPI.COMM_WORLD.Split(0 if MPI.COMM_WORLD.rank else 1, -MPI.COMM_WORLD.rank)\n"
    "with open_comm(part) as group:\n"
    "    assert (group.rank, group.size, group.kind) == (part.rank, part.size, 'mpi')\n"
    "    assert group.gather(MPI.COMM_WORLD.rank) == part.allgather(MPI.COMM_WORLD.rank)\n"
    "with open_comm() as group:\n"
    "    assert (group.rank, group.size) == (MPI.COMM_WORLD.rank, 3)\n"
    "if part.size > 1:\n"
    "    shardweld.consolidate_safetensors_files_on_every_rank(sys.argv[1], sys.argv[2], None, comm=part)\n"
    "try:\n"
    "    with open_comm(MPI.COMM_NULL): pass\n"
    "except shardweld.UsageError as e:\n"
    "    sys.stdout.write(f'{e}\\n')\n"
)


def test_a_communicator_of_mpi4py(with_mpi4py, checkpoint, tmp_path):
    import oracle

    done = ranks.run([*ranks.mpirun(3), with_mpi4py, "-c", MPI4PY, checkpoint.path, str(tmp_path / "out")])
    assert done.status == 0, done.stderr
    assert done.stdout.count("intracommunicator") == 3
    assert oracle.tree(tmp_path / "out") == {oracle.SINGLE: oracle.serialize(checkpoint.tensors)}


def test_mpi_is_left_alone_where_the_program_finalizes_it(with_mpi4py):
    """mpi4py has initialised it, so that it ends it, before or after our own end."""
    program = "from mpi4py import MPI\nfrom shardweld._comm import open_comm\nwith open_comm() as g: g.gather(1)\nMPI.Finalize()\n"
    done = ranks.run([*ranks.mpirun(2), with_mpi4py, "-c", program])
    assert done.status == 0, done.stderr
