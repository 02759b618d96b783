"""weld.sbatch: a job of its own, what becomes of it, and what its user sees."""

import json
import os
import time

import pytest
from conftest import Work

# Rank 0 stands still before the welded files are published, or in the middle of that.
STAGED = {"SHARDWELD_FAULT": "mpi_sync:0:1:halt"}
PUBLISHING = {"SHARDWELD_FAULT": "rename:0:2:halt"}
STAGING = ".shardweld-staging"


def report(work, job):
    with open(f"{work.path}/weld-{job}.json") as f:
        return json.load(f)


def weld(site, work, *options, env=None, sbatch=()):
    return site.weld(work.src, work.out, *options, env=env, options=sbatch, cwd=work.path)


def hold(site, work, env=STAGED, *options, sbatch=()):
    """A weld that stands still when it has staged its files."""
    job = weld(site, work, "--sync", *options, env=env, sbatch=sbatch)
    site.wait_held(job)
    assert os.path.isdir(f"{work.out}/{STAGING}")
    return job


# ---- it works -------------------------------------------------------------------------------------


def test_success(site, work):
    job = weld(site, work, "--expect-shards", 4)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()
    (line,) = work.lines(job)
    assert line.startswith(f"weld: done: {work.src} -> {work.out}, 4 ranks on 1 node, 1 file, "), line
    assert line.endswith(f"; report weld-{job}.json") and work.log(job) == line + "\n"
    assert report(work, job)["ranks"] == 4 and report(work, job)["status"] == 0


@pytest.mark.parametrize(
    "env, sbatch, ranks, nodes",
    [({}, ["-N2", "--ntasks-per-node=3"], 6, 2), ({"SHARDWELD_RANKS": "2"}, ["-N2"], 4, 2),
     ({"SHARDWELD_NODES": "1", "SHARDWELD_RANKS": "1"}, ["-N2"], 1, 1), ({"SHARDWELD_RANKS": "5"}, ["--ntasks-per-node=1"], 5, 1)],
    ids=["sbatch", "ranks", "nodes", "more than CPUs"],
)  # fmt: skip
def test_nodes_and_ranks(site, work, env, sbatch, ranks, nodes):
    job = weld(site, work, env=env, sbatch=sbatch)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()
    assert report(work, job)["ranks"] == ranks
    assert f", {ranks} rank{'s' * (ranks > 1)} on {nodes} node{'s' * (nodes > 1)}, " in work.lines(job)[0]


def test_a_launcher_that_ends_with_0_and_has_not_done_it(site, work):
    """As mpirun of Open MPI 5 does that has lost a node: no report, no success."""
    nothing = f"{work.path}/nothing"
    with open(nothing, "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(nothing, 0o755)
    job = weld(site, work, env={"SHARDWELD": nothing})
    assert site.outcome(job) == ("FAILED", "1:0"), work.log(job)
    assert "no report of success" in work.lines(job)[0]


def test_relative_paths_and_a_report_of_ones_own(site, work):
    job = site.weld("my ckpt", "sub/out", "--report", "the report.json", cwd=work.path)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    with open(f"{work.path}/the report.json") as f:
        assert json.load(f)["output"] == "sub/out"
    assert work.lines(job)[0].endswith("; report the report.json")
    assert not os.path.exists(f"{work.path}/weld-{job}.json")


def test_mpirun_in_place_of_srun(site, work):
    job = weld(site, work, env={"SHARDWELD_LAUNCH": "mpirun", "SHARDWELD_RANKS": "3"})
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()
    assert report(work, job)["ranks"] == 3


def test_variables_of_a_launcher_that_leak_in(site, work):
    """Submitted by a rank of a training."""
    env = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "PMI_RANK": "3", "PMI_SIZE": "8", "OMPI_COMM_WORLD_RANK": "3",
           "OMPI_COMM_WORLD_SIZE": "8", "PMIX_RANK": "3", "PMIX_NAMESPACE": "other", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_ID": "7",
           "SLURM_CPU_BIND": "junk", "SLURM_CPU_BIND_TYPE": "junk:"}  # fmt: skip
    job = weld(site, work, env={**env, "SHARDWELD_CHECK": "yes"})
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()


@pytest.mark.parametrize("export", ["NONE", "some"])
def test_without_the_environment(site, work, export):
    """srun would hand on as little as sbatch was told to, and the program would not find its libraries' settings."""
    if export == "some":
        sbatch = [f"--export=SHARDWELD={site.program},SHARDWELD_SETUP={site.setup}"]
        job = weld(site, work, sbatch=sbatch)
    else:  # then the path has to be in the script
        with open(f"{site.scripts}/weld.sbatch") as f:
            text = f.read().replace("\nset -u\n", f"\nSHARDWELD='{site.program}' SHARDWELD_SETUP='{site.setup}'\nset -u\n")
        with open(f"{work.path}/mine.sbatch", "w") as f:
            f.write(text)
        job = site.run("sbatch", "--parsable", "--export=NONE", "mine.sbatch", work.src, work.out, cwd=work.path).stdout.strip()
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()


# ---- it fails -------------------------------------------------------------------------------------


def test_input_that_is_no_checkpoint(site, work):
    work.lose()
    job = weld(site, work)
    assert site.outcome(job) == ("FAILED", "3:0")
    assert "shardweld: error: " in work.log(job) and "layers.0.weight" in work.log(job)
    assert work.lines(job) == [f"weld: failed with status 3: {work.src} -> {work.out}, 4 ranks on 1 node"]
    assert report(work, job)["status"] == 3
    assert not os.path.exists(work.out)


def test_output_that_is_there_already(site, work):
    assert site.outcome(weld(site, work)) == ("COMPLETED", "0:0")
    job = weld(site, work)
    assert site.outcome(job) == ("FAILED", "2:0") and "--overwrite" in work.log(job)
    assert site.outcome(weld(site, work, "--overwrite")) == ("COMPLETED", "0:0")
    work.check()


@pytest.mark.parametrize("env", [{"SHARDWELD": "/no/such/program"}, {"SHARDWELD_SETUP": "/no/such/file"}], ids=lambda e: "+".join(e))
def test_what_is_not_there(site, work, env):
    job = weld(site, work, env=env)
    assert site.outcome(job) == ("FAILED", "2:0")
    (line,) = work.lines(job)
    assert line.startswith("weld: failed with status 2: ") and next(iter(env.values())) in line


def test_wrong_usage(site, work):
    job = site.weld(work.src, cwd=work.path)
    assert site.outcome(job) == ("FAILED", "2:0") and "usage: sbatch" in work.log(job)
    got = site.run(f"{site.scripts}/weld.sbatch", work.src, work.out, check=False)
    assert got.returncode == 2 and "usage: sbatch" in got.stderr


def test_a_rank_that_dies_does_not_leave_the_others_waiting(site, work):
    job = weld(site, work, env={"SHARDWELD_FAULT": "mpi_open:1:1:kill"}, sbatch=["--ntasks-per-node=2"])
    state, status = site.outcome(job, 90)
    assert state == "FAILED" and status != "0:0", work.log(job)
    assert work.lines(job)[-1].startswith("weld: failed with status ")
    assert set(os.listdir(work.out)) <= {STAGING}


# ---- it is stopped --------------------------------------------------------------------------------


def test_scancel(site, work):
    job = hold(site, work)
    site.run("scancel", job)
    assert site.outcome(job)[0] == "CANCELLED"
    # It had time to clean up, and to say so.
    site.until(lambda: work.lines(job), 30, "the result")
    assert work.lines(job)[-1].startswith("weld: failed with status 1: ") and "interrupted by a signal" in work.log(job)
    assert not os.path.exists(work.out)
    assert site.outcome(weld(site, work)) == ("COMPLETED", "0:0")
    work.check()


def test_a_signal_to_the_batch_script(site, work):
    """Of --signal=B:TERM@N, or scancel --batch: the program ends in good order. It would take seconds."""
    os.mkdir(f"{work.path}/larger")
    work = Work(f"{work.path}/larger", rows=500)
    job = weld(site, work, "--buffer-size", "4KiB", env={"SHARDWELD_FAULT": "pread:-1:1+:slow"})
    site.until(lambda: os.path.isdir(f"{work.out}/{STAGING}"), 30, "the staging")
    site.run("scancel", "--batch", "--signal=TERM", job)
    state, status = site.outcome(job)
    assert state == "FAILED" and status != "0:0"
    assert work.lines(job)[-1].endswith(": stopped by a signal"), work.log(job)
    assert not os.path.exists(work.out)


def test_requeue_in_the_middle(site, work):
    """What the killed start had staged is dead; the second one begins again."""
    job = hold(site, work)
    site.run("scontrol", "requeue", job)
    restart(site, job)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    assert site.show(job)["Restarts"] == "1"
    work.check()
    assert work.lines(job)[-1].startswith("weld: done: ")


def restart(site, job):
    """A requeued job waits for two minutes, unless it is told not to; a second it needs, because a node refuses a start as old as the kill."""
    site.until(lambda: site.show(job)["JobState"] == "PENDING", 60, "the requeue")
    time.sleep(1.2)
    site.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def test_requeue_in_the_middle_of_publication(site, work):
    """The old checkpoint is half out of the way: the second start completes or undoes that, then does what it was asked for."""
    assert site.outcome(weld(site, work)) == ("COMPLETED", "0:0")
    job = hold(site, work, PUBLISHING, "--overwrite")
    site.run("scontrol", "requeue", job)
    restart(site, job)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()


def test_requeue_when_it_was_complete(site, work):
    job = weld(site, work)
    assert site.outcome(job) == ("COMPLETED", "0:0")
    inode = os.stat(f"{work.out}/model-00001-of-00001.safetensors").st_ino
    site.run("scontrol", "requeue", job)
    restart(site, job)
    site.until(lambda: len(work.lines(job)) == 2, 60, "the second start")
    assert site.outcome(job) == ("COMPLETED", "0:0")
    assert work.lines(job)[1] == f"weld: done: {work.out} was complete before this job was requeued; nothing was done again"
    assert os.stat(f"{work.out}/model-00001-of-00001.safetensors").st_ino == inode


def test_requeue_when_it_was_complete_and_then_lost(site, work):
    job = weld(site, work)
    assert site.outcome(job) == ("COMPLETED", "0:0")
    os.unlink(f"{work.out}/model.safetensors.index.json")
    os.unlink(f"{work.out}/model-00001-of-00001.safetensors")
    site.run("scontrol", "requeue", job)
    restart(site, job)
    site.until(lambda: len(work.lines(job)) == 2, 60, "the second start")
    assert site.outcome(job) == ("COMPLETED", "0:0")
    work.check()


def test_the_lock_of_an_earlier_start_is_not_believed(site, work):
    """Where file locks do not work, the time of the last sign of life would count: ten minutes for a start that SLURM has killed."""
    job = weld(site, work, "--bogus")
    assert site.outcome(job) == ("FAILED", "2:0")
    os.makedirs(f"{work.out}/{STAGING}")
    for owner, old in ((job, True), ("1", False)):
        lock = f"{work.out}/{STAGING}/lock"
        with open(lock, "w") as f:
            f.write(f"host elsewhere\npid 1\njob {owner}\n")
        before = os.stat(lock).st_mtime
        count = len(work.lines(job))
        site.run("scontrol", "requeue", job)
        restart(site, job)
        site.until(lambda: len(work.lines(job)) >= count + 1 + old, 60, "the next start")
        site.outcome(job)
        assert (os.stat(lock).st_mtime < before - 3600) == old


# ---- what stands still ------------------------------------------------------------------------------


@pytest.mark.parametrize("mpi", ["pmix", "mpirun"])
def test_a_rank_that_stands_still(site, work, mpi):
    """A file server that does not answer one node: the job ends, and says which."""
    env = {"SHARDWELD_FAULT": "pread:3:1:hang", "SHARDWELD_LAUNCH": mpi}
    job = weld(site, work, "--timeout", "4", env=env, sbatch=["-N2", "--ntasks-per-node=2"])
    assert site.outcome(job) == ("FAILED", "4:0"), work.log(job)
    assert "shardweld: error: no round has finished for 4 s: waiting for rank 3 on " in work.log(job), work.log(job)
    assert f"{work.out}/{STAGING} stays until the next run removes it" in work.log(job)
    assert report(work, job)["status"] == 4


def test_patience_is_limited_unless_the_user_says_otherwise(site, work):
    for given, seconds in ([], 600), (["--timeout", "2h"], 7200), (["--timeout=0"], 0):
        job = weld(site, work, "--overwrite", *given)
        assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
        assert (report(work, job)["options"]["timeout"] or 0) == seconds
