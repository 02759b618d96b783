"""Weld a checkpoint by the ranks of torchrun, without MPI:

    torchrun --nproc-per-node 8 examples/weld.py step-1000 welded

In a training it is the one line, after the checkpoint has been saved: weld() is called by every rank, which share the work.
"""

import sys

import shardweld
import torch.distributed as dist

source, target = sys.argv[1:]
dist.init_process_group("gloo")
shardweld.weld(source, target)
dist.destroy_process_group()
