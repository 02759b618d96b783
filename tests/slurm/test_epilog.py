"""epilog.sh for users: welding in the training's own job, beside or behind its last step."""

import json
import os

import pytest


def wants(work, options="--expect-shards 4", **more):
    return {"SHARDWELD_IN": work.src, "SHARDWELD_OUT": work.out, "SHARDWELD_OPTIONS": options, "SHARDWELD_RANKS": "2", **more}


def results(work):
    return [line for line in work.training().splitlines() if line.startswith("weld: ")]


def train(site, work, text, options=(), **more):
    return site.batch(text.replace("EPILOG", f"'{site.scripts}/epilog.sh'"), work.path, options, env=wants(work, **more))


WAYS = {
    "srun": "srun --export=ALL --epilog=EPILOG sh -c '{}'",
    "trap": "trap \"EPILOG\" EXIT\nsrun --export=ALL sh -c '{}'",
    "behind": "srun --export=ALL sh -c '{}'\nstatus=$?\nEPILOG\nexit $status",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [0, 7])
def test_welds_and_keeps_the_trainings_status(site, work, way, status):
    job = train(site, work, WAYS[way].format(f"exit {status}"), ["-N2", "-n2"])
    assert site.outcome(job) == ("FAILED" if status else "COMPLETED", f"{status}:0"), work.training()
    work.check()
    (line,) = results(work)
    assert line.startswith(f"weld: done: {work.src} -> {work.out}, 4 ranks on 2 nodes, 1 file, ")
    with open(f"{work.path}/weld-{job}.json") as f:
        assert json.load(f)["ranks"] == 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [0, 7])
def test_a_weld_that_fails_does_not_count(site, work, way, status):
    work.lose()
    job = train(site, work, WAYS[way].format(f"exit {status}"))
    assert site.outcome(job) == ("FAILED" if status else "COMPLETED", f"{status}:0"), work.training()
    assert results(work) == [f"weld: failed with status 3: {work.src} is not a complete checkpoint"]
    assert "shardweld: error: " in work.training() and not os.path.exists(work.out)


def test_beside_a_step_that_holds_all(site, work):
    """And whatever options the training's srun has, in variables too."""
    text = """export SLURM_NTASKS_PER_NODE=3 SLURM_CPU_BIND=junk SLURM_MEM_PER_CPU=100 SLURM_EXACT=1 RANK=0 WORLD_SIZE=2
env -u SLURM_CPU_BIND srun -n4 --exact --mem-per-cpu=100 sleep 60 & train=$!
sleep 1
EPILOG
kill $train
wait $train
exit 0"""
    job = train(site, work, text, ["-n4", "--mem-per-cpu=100"])
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.training()
    work.check()


def test_srun_in_an_interactive_allocation(site, work):
    env = {**site.told(wants(work)), "OMPI_MCA_btl": "self,tcp"}
    got = site.run("salloc", "-Q", "-n2", "srun", f"--epilog={site.scripts}/epilog.sh", "sh", "-c", "exit 5", env=env, cwd=work.path, check=False)
    assert got.returncode == 5, got
    work.check()
    assert "weld: done: " in got.stdout + got.stderr


def test_srun_alone_has_no_nodes_left(site, work):
    """Its allocation ended with the training: a message, no hang, and the training's status."""
    got = site.run("srun", f"--epilog={site.scripts}/epilog.sh", "sh", "-c", "exit 5", env=site.told(wants(work)), cwd=work.path, check=False)
    assert got.returncode == 5, got
    assert "weld: failed with status " in got.stdout + got.stderr and not os.path.exists(work.out)


def test_without_directories(site, work):
    job = site.batch(f"trap \"'{site.scripts}/epilog.sh'\" EXIT\nexit 4", work.path)
    assert site.outcome(job) == ("FAILED", "4:0")
    assert results(work) == ["weld: not done: SHARDWELD_IN and SHARDWELD_OUT say what and where, and are not set"]


def test_not_for_each_task(site, work):
    got = site.run("srun", "-n1", f"--task-epilog={site.scripts}/epilog.sh", "true", env=site.told(wants(work)), check=False)
    assert "for --epilog, not for " in got.stdout + got.stderr and not os.path.exists(work.out)


def test_shards_on_the_disks_of_the_nodes(site, work):
    """No node sees them all, so nothing is looked at before; each rank reads what it finds."""
    job = train(site, work, WAYS["trap"].format("exit 0"), ["-N2"], SHARDWELD_OPTIONS="--node-local --expect-shards 4", SHARDWELD_RANKS="1")
    assert site.outcome(job) == ("COMPLETED", "0:0"), work.training()
    work.check()
    assert "2 ranks on 2 nodes" in results(work)[0]
