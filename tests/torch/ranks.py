"""Ranks of a torch process group, without a launcher."""

import os
import socket
import subprocess
import sys


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def meeting(world):
    """What the environment of each rank has to say."""
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}


def run_ranks(world, script, *args):
    """script as so many ranks, each a process of its own; all must end well."""
    env = {**os.environ, **meeting(world), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    ranks = [subprocess.Popen([sys.executable, script, *args], env={**env, "RANK": str(r)}) for r in range(world)]
    assert [p.wait(timeout=300) for p in ranks] == [0] * world
