"""submit-after.sh: a weld that follows a training, however that ended."""

import os
import re

import oracle
import pytest


def after(site, work, job, *options, env=None, src=None, **more):
    """Submit; the weld job's number."""
    got = site.script("submit-after.sh", job, src or work.src, work.out, *options, env=env, cwd=work.path, **more)
    assert re.fullmatch(r"\d+\n", got.stdout), got
    return got.stdout.strip()


@pytest.mark.parametrize("end, state", [("exit 0", "COMPLETED"), ("exit 3", "FAILED"), ("kill -9 $$", "FAILED"), ("scancel $SLURM_JOB_ID; sleep 60", "CANCELLED")])
def test_however_the_training_ended(site, work, end, state):
    training = site.batch(f"while [ ! -e go ]; do sleep 0.1; done\n{end}", work.path)
    job = after(site, work, training, "--expect-shards", "4")
    assert site.show(job)["JobState"] == "PENDING"
    with open(f"{work.path}/go", "w"):
        pass
    assert site.outcome(training)[0] == state
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()


def test_the_checkpoint_may_come_later(site, work):
    """A link that names the latest checkpoint is looked at when the job starts; the training submits its own successor."""
    text = f"'{site.scripts}/submit-after.sh' $SLURM_JOB_ID LATEST 'welded ckpt' --expect-shards=4\nln -s 'my ckpt' LATEST"
    training = site.batch(text, work.path)
    assert site.outcome(training)[0] == "COMPLETED"
    job = work.training().strip()
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    work.check()


def test_now_and_a_job_that_nobody_knows_any_more(site, work):
    assert site.outcome(after(site, work, "now", "--expect-shards", "4")) == ("COMPLETED", "0:0")
    assert site.outcome(after(site, work, "99999", "--expect-shards", "4", "--overwrite")) == ("COMPLETED", "0:0")
    work.check()


@pytest.mark.parametrize("options", [("--expect-shards", "4"), ("--expect-shards=4",), ("--like", "wanted.index.json")], ids=" ".join)
def test_an_incomplete_checkpoint_is_not_welded(site, work, options):
    """The last rows of every tensor are lost: nothing but these options can tell."""
    oracle.write(f"{work.path}/wanted.index.json", work.expect[oracle.INDEX])
    oracle.write(f"{work.path}/{oracle.model_name(1, 1)}", work.expect[oracle.model_name(1, 1)])
    work.lose(4)
    job = after(site, work, "now", *options)
    assert site.outcome(job) == ("FAILED", "3:0"), work.log(job)
    assert work.lines(job) == [f"weld: failed with status 3: {work.src} is not a complete checkpoint"]
    assert not os.path.exists(work.out)


def test_a_warning_without_a_measure(site, work):
    got = site.script("submit-after.sh", "now", work.src, work.out, cwd=work.path)
    assert got.stderr.startswith("submit-after.sh: warning: ")
    assert site.outcome(got.stdout.strip()) == ("COMPLETED", "0:0")
    assert site.script("submit-after.sh", "99999", work.src, work.out, "--expect-shards", "4", cwd=work.path).stderr == ""


def test_clean_environment(site, work):
    """Of the rank of a training that submits, with its launcher's and its job's variables, nothing arrives."""
    spy = f"{work.path}/spy.sh"
    with open(spy, "w") as f:
        f.write(f". '{site.setup}'\nenv >seen\n")
    leaks = {"RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "x", "PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_MCA_btl": "junk", "SLURM_NTASKS": "77",
             "SLURM_NTASKS_PER_NODE": "9", "SLURM_MEM_PER_NODE": "7", "SLURM_CPU_BIND": "junk", "SLURM_JOB_ID": "4", "LD_PRELOAD": "", "PYTHONPATH": "x", "SBATCH_EXPORT": "NONE",
             "SBATCH_OUTPUT": "elsewhere"}  # fmt: skip
    env = {**leaks, "SHARDWELD_SETUP": spy, "SBATCH_PARTITION": "cpu", "LD_LIBRARY_PATH": "/opt/x", "SHARDWELD_RANKS": "2"}
    job = after(site, work, "now", "--expect-shards", "4", env=env)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    with open(f"{work.path}/seen") as f:
        seen = dict(line.rstrip("\n").partition("=")[::2] for line in f)
    for name, value in leaks.items():
        assert seen.get(name) != value, name
    assert seen["LD_LIBRARY_PATH"] == "/opt/x" and seen["SLURM_NTASKS"] == "2" and "2 ranks on 1 node" in work.lines(job)[-1]


def test_where_it_runs(site, work):
    env = {"SHARDWELD_NODES": "2", "SHARDWELD_RANKS": "1", "SHARDWELD_PARTITION": "cpu", "SHARDWELD_SBATCH": "--time=7 --job-name=mine"}
    job = after(site, work, "now", "--expect-shards", "4", env=env)
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.log(job)
    shown = site.show(job)
    assert shown["NumNodes"] == "2" and shown["TimeLimit"] == "00:07:00" and shown["JobName"] == "mine"
    assert "2 ranks on 2 nodes" in work.lines(job)[-1]


@pytest.mark.parametrize("args", [[], ["1"], ["1", "in"], ["x", "in", "out"], ["1; id", "in", "out"], ["", "in", "out"], ["1", "", "out"], ["-1", "in", "out"]], ids=str)
def test_wrong_usage(site, work, args):
    got = site.script("submit-after.sh", *args, check=False)
    assert got.returncode == 2 and got.stdout == "" and "usage: submit-after.sh" in got.stderr


def test_what_sbatch_says_is_seen(site, work):
    got = site.script("submit-after.sh", "now", work.src, work.out, "--expect-shards=4", env={"SHARDWELD_PARTITION": "nowhere"}, check=False)
    assert got.returncode != 0 and "partition" in got.stderr and got.stdout == ""
