"""The program under torch's launchers, whose processes are no ranks of an MPI job."""

import os
import subprocess
import sys

import numpy as np
import oracle
import pytest
from runner import SHARDWELD, environment

BIN = os.path.dirname(sys.executable)
LAUNCHERS = {
    "torchrun": ["torchrun", "--standalone", "--nproc-per-node=2", "--no-python"],
    "accelerate": ["accelerate", "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no",
                   "--num_cpu_threads_per_process=1", "--no_python"],
}  # fmt: skip


@pytest.mark.parametrize("name", LAUNCHERS)
def test_refused_with_the_cure(name, tmp_path):
    tensors = {"w": oracle.random_tensor(np.random.default_rng(1), "F32", (8, 4))}
    src, out = str(tmp_path / "in"), str(tmp_path / "out")
    oracle.write_sharded(src, tensors, {"w": oracle.boxes_of((8, 4), (2,), (0,))})
    launcher = [os.path.join(BIN, LAUNCHERS[name][0]), *LAUNCHERS[name][1:]]
    words = [*launcher, SHARDWELD, "consolidate", src, out]
    got = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert got.returncode != 0
    for says in ("shardweld: error: this is one of 2 processes of torchrun (RANK, WORLD_SIZE)", "mpirun -n 2 shardweld", "env -u RANK -u WORLD_SIZE shardweld"):
        assert says in got.stderr, got.stderr
    assert not os.path.exists(out)
