"""The program under a real srun, with each of its ways to start MPI programs."""

import os

import pytest
from runner import errors, fails, Result

SRUN = ("srun", "-Q", "--overcommit", "--export=ALL")


def srun(site, work, *options, launcher=SRUN, env=None):
    mpi = {"OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo",
           "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}  # fmt: skip
    got = site.run(*launcher, *options, site.program, "consolidate", work.src, work.out, check=False, env={**mpi, **(env or {})})
    return Result(got.returncode, got.stdout, got.stderr)


def test_which_ways_there_are(site):
    got = site.run("srun", "--mpi=list")
    assert {"pmix", "pmi2", "none"} <= set((got.stdout + got.stderr).split())


@pytest.mark.parametrize("options", [("-n1",), ("-n2",), ("-N2", "-n4")], ids="".join)
def test_pmix(site, work, options):
    got = srun(site, work, "--mpi=pmix", *options)
    assert got == Result(0, "", "")
    work.check()


@pytest.mark.parametrize("mpi", ["none", "pmi2"])
def test_without_pmix_one_process_works(site, work, mpi):
    assert srun(site, work, f"--mpi={mpi}", "-n1") == Result(0, "", "")
    work.check()


@pytest.mark.parametrize("mpi, speakers", [("none", 3), ("pmi2", 1)])
def test_without_pmix_several_are_refused(site, work, mpi, speakers):
    """Where nothing but srun is there none knows of the others; with PMI2 the first of a machine speaks for all."""
    got = srun(site, work, f"--mpi={mpi}", "-n3")
    assert got.status == 2 and got.stdout == ""
    messages = errors(got)
    assert len(messages) == speakers and len(set(messages)) == 1, got.stderr
    for words in ("one of 3 processes", "srun --mpi=pmix -n 3 shardweld", "mpirun -n 3 shardweld", "-u SLURM_PROCID"):
        assert words in messages[0]
    assert not os.path.exists(work.out)


def test_an_error_has_one_message_and_its_status(site, work):
    work.lose()
    fails(srun(site, work, "--mpi=pmix", "-n3"), 3, "layers.0.weight")
    assert not os.path.exists(work.out)


def test_mpirun_in_an_allocation(site, work):
    got = srun(site, work, launcher=("salloc", "-Q", "-n2", "mpirun", "-n", "2"))
    assert got == Result(0, "", "")
    work.check()


def test_in_a_batch_script_without_a_launcher(site, work):
    """The script's own variables (SLURM_PROCID, SLURM_NTASKS) do not make it one of many."""
    job = site.batch(f"'{site.program}' consolidate '{work.src}' '{work.out}'", work.path, ["-n4"])
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.training()
    work.check()
