"""Two nodes, with mpirun on the first: what is said where, and a link that goes down."""

import shutil
import time

import oracle
import pytest
import runner
from conftest import may, next_run
from nodes import WORDS, Nodes
from runner import errors, fails, finish, ok, show, start, warnings

# What the scripts of slurm/ set: else mpirun lingers for minutes after the link is gone.
KEEPALIVE = {"OMPI_MCA_oob_tcp_keepalive_time": "5", "OMPI_MCA_oob_tcp_keepalive_intvl": "2", "OMPI_MCA_oob_tcp_keepalive_probes": "3"}


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    may(WORDS, "networks and mounts of one's own")
    (tmp_path / "nodes").mkdir()
    shutil.copy(runner.SHARDWELD, tmp_path / "shardweld")
    monkeypatch.setattr(runner, "SHARDWELD", str(tmp_path / "shardweld"))
    with Nodes(tmp_path / "nodes", 2) as made:
        yield made


def launch(nodes, args, env=None, per_node=2):
    """mpirun on node1, with as many ranks on each."""
    hosts = ",".join(f"{name}:{per_node}" for name in nodes.names)
    return start(args, np=None, env={**nodes.environment(), **(env or {})}, outer=[*nodes.inside(0), "mpirun", "--host", hosts, "-n", str(2 * per_node)])


def test_two_nodes(nodes, scene, out):
    ok(finish(launch(nodes, scene.args(out)), 60))
    assert scene.look(out).new
    message = fails(finish(launch(nodes, scene.args(out), {"SHARDWELD_FAULT": "pread:3:1"}), 60), 4)
    assert message.endswith("(rank 3 on node2)"), message


def test_output_dir_on_local_disks(nodes, scene):
    """/mnt is a file system of each node's own."""
    message = fails(finish(launch(nodes, scene.args("/mnt/out")), 60), 2, "/mnt/out: is not the same directory for rank 0 on node1 and rank 2 on node2")
    assert message.endswith("(rank 2 on node2)"), message


def test_a_link_that_goes_down(nodes, scene, out):
    """With every rank's writes slowed down, so that it does so in the midst of them."""
    staged = out / ".shardweld-staging" / "new" / oracle.model_name(1, 1)
    args = [*scene.args(out, buffer="4KiB"), "--timeout", "12"]
    process = launch(nodes, args, {"SHARDWELD_FAULT": "mpi_write:-1:1+:slow", **KEEPALIVE})
    end = time.monotonic() + 30
    while not staged.exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    nodes.link(1, "down")
    begun = time.monotonic()
    result = finish(process, 60)
    assert result.status != 0 and time.monotonic() - begun < 30, show(result)
    said = [*warnings(result), *errors(result)]
    assert said and all("waiting for ranks 2 to 3 on node2 (no word of them any more" in line for line in said), show(result)
    now = scene.look(out)
    assert now.old and not now.mixture
    assert next_run(scene, out) == ""
