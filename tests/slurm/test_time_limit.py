"""Time limits. SLURM looks twice a minute at who is over, so all the jobs of this file run at the same time."""

import os
import tempfile
import time

import pytest
from conftest import Work

# Lines of epilog.sh's head comment. SLURM may signal the sleep before the shell that waits for it: that is no reason to end.
SIGNALLED = """trap "EPILOG" EXIT
trap 'scancel --signal=TERM $SLURM_JOB_ID; wait $train; exit $?' USR1
srun sh -c 'trap "echo saved; exit 9" TERM; echo begun; while :; do sleep 1 & wait; done' & train=$!
wait $train"""


class Limited:
    """A weld, a training with a weld behind it, a training that is told before its limit."""

    def __init__(self, site):
        self.works = [Work(tempfile.mkdtemp(prefix="limit-", dir=site.root)) for _ in range(4)]
        weld, training, signalled, plain = self.works
        self.weld = site.weld(weld.src, weld.out, cwd=weld.path, env={"SHARDWELD_FAULT": "mpi_sync:0:1:halt"})
        self.training = site.batch("srun sleep 300", training.path)
        self.after = site.script("submit-after.sh", self.training, training.src, training.out, "--expect-shards=4", cwd=training.path).stdout.strip()
        self.afterok = site.run("sbatch", "--parsable", f"--dependency=afterok:{self.training}", "--output=/dev/null", "--wrap=true").stdout.strip()
        self.signalled = self.train(site, signalled, SIGNALLED, "--time=10", "--signal=B:USR1@50")
        self.plain = self.train(site, plain, SIGNALLED.replace("USR1", "USR2"))
        site.wait_held(self.weld)
        site.until(lambda: all(site.show(j)["JobState"] == "RUNNING" for j in (self.training, self.plain)), 30, "all to run")
        site.until(lambda: "begun\n" in signalled.training(), 60, "the training to begin")
        # The signal is due at once, and then there are 50 s.
        for job, seconds in (self.signalled, 50), (self.weld, 2), (self.training, 2), (self.plain, 2):
            end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + seconds))
            site.run("scontrol", "update", f"JobId={job}", f"EndTime={end}")

    def train(self, site, work, text, *options):
        env = {"SHARDWELD_IN": work.src, "SHARDWELD_OUT": work.out, "SHARDWELD_OPTIONS": "--expect-shards 4"}
        return site.batch(text.replace("EPILOG", f"'{site.scripts}/epilog.sh'"), work.path, options, env=env)


@pytest.fixture(scope="module")
def limited(site):
    return Limited(site)


def test_a_weld_over_its_limit(site, limited):
    """Nothing of it can be seen; the next one is not disturbed by what it may have left."""
    work = limited.works[0]
    assert site.outcome(limited.weld, 120)[0] == "TIMEOUT"
    assert not os.path.exists(f"{work.out}/model.safetensors.index.json")
    site.until(lambda: not site.held(limited.weld), 30, "the end of its processes")
    job = site.weld(work.src, work.out, cwd=work.path)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()


def test_a_training_over_its_limit_is_welded_afterwards(site, limited):
    """afterok waits for ever, or is given up: the reason for a check of our own."""
    work = limited.works[1]
    assert site.outcome(limited.training, 120)[0] == "TIMEOUT"
    assert site.outcome(limited.after) == ("COMPLETED", "0:0"), work.log(limited.after)
    work.check()
    assert site.show(limited.afterok)["JobState"] in ("PENDING", "CANCELLED")
    site.run("scancel", limited.afterok)


def test_a_signal_before_the_limit_leaves_time_to_weld(site, limited):
    """SLURM's own signal, by --signal=B:USR1@N; the training saves and leaves with its own status."""
    work = limited.works[2]
    assert site.outcome(limited.signalled, 120) == ("FAILED", "9:0"), work.training()
    work.check()
    assert "saved\n" in work.training() and "weld: done: " in work.training()


def test_without_the_signal_there_is_no_time(site, limited):
    """The job ends as any job over its limit does, and is not kept alive by its trap."""
    work = limited.works[3]
    assert site.outcome(limited.plain, 120)[0] == "TIMEOUT"
    site.until(lambda: not site.run("squeue", "-h", "-j", limited.plain, check=False).stdout, 60, "the end of the job")
    assert not os.path.exists(f"{work.out}/model.safetensors.index.json") or not work.check()
