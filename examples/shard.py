"""Cut a model over the ranks of a job and save it as torch's distributed training does, with torch.distributed.checkpoint:

    torchrun --nproc-per-node 3 examples/shard.py model.safetensors step-1 rows

Each tensor is cut along its first dimension, or with `columns` along its last; step-1 holds a .distcp file of each rank, and .metadata.
"""

import sys

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor


def save(model, target, layout):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    state = {}
    for name, tensor in load_file(model).items():
        dim = 0 if layout == "rows" else tensor.dim() - 1
        state[name] = distribute_tensor(tensor, mesh, [Shard(dim)])
    dcp.save(state, checkpoint_id=target)


dist.init_process_group("gloo")
save(*sys.argv[1:])
dist.barrier()
dist.destroy_process_group()  # by now nothing holds it any more, which could abort the process as it ends
