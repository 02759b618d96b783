"""The peer of a save from memory: peer_torch_save.py OUTPUT LAYOUT SIZE FILLER, under torchrun. torch's DCP writes shard files below
OUTPUT/sharded and welds them into OUTPUT; rank 0 prints the seconds of both together and its peak resident bytes."""

import os
import resource
import shutil
import sys
import time

import checkpoint
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

out, layout, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
state = {}
for name, shape in checkpoint.shapes(size).items():
    dim = 0 if layout == "rows" or len(shape) == 1 else 1
    box = checkpoint.boxes(shape, layout, dist.get_world_size())[dist.get_rank()]
    local = torch.randint(0, 1 << 15, box.shape, dtype=torch.int16).view(torch.bfloat16)
    stride = torch.empty(shape, device="meta").stride()
    state[name] = DTensor.from_local(local, mesh, [Shard(dim)], run_check=False, shape=torch.Size(shape), stride=stride)
if dist.get_rank() == 0:
    shutil.rmtree(out, ignore_errors=True)
    os.unlink(sys.argv[4])
dist.barrier()
begin = time.perf_counter()
dcp.save(state, storage_writer=HuggingFaceStorageWriter(out, save_distributed=True, enable_consolidation=True))
dist.barrier()
seconds = time.perf_counter() - begin
if dist.get_rank() == 0:
    print(f"{seconds:.6f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")
dist.destroy_process_group()
