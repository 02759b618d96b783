"""The peer of the reader: torch's own, timed: peer_reader.py CHECKPOINT rows|columns|grid RANKS THREADS ROUNDS.

Loads each rank's DTensors, one rank after the other, with HuggingFaceStorageReader, into memory that has been touched. Prints the
seconds of the best round of each rank, added up, headers included, and the bytes.
"""

import sys
import time
import warnings

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.testing._internal.distributed.fake_pg import FakeStore

path, layout, ranks, threads, rounds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
warnings.simplefilter("ignore")


def mesh_of():
    across = next(n for n in range(1, ranks + 1) if n * n >= ranks and ranks % n == 0)
    return {"rows": (ranks, 1), "columns": (1, ranks), "grid": (ranks // across, across)}[layout]


def full_shapes():
    """{fqn: (dtype, shape)} of what the shards make up."""
    metadata = HuggingFaceStorageReader(path).read_metadata().state_dict_metadata
    return {n: (m.properties.dtype, tuple(m.size)) for n, m in metadata.items()}


def state_of(shapes, mesh, flat):
    state, size = {}, 0
    for name, (dtype, shape) in shapes.items():
        where, placements = (flat, [Shard(0)]) if len(shape) == 1 else (mesh, [Shard(0), Shard(1)])
        local, _ = compute_local_shape_and_global_offset(shape, where, placements)
        part = torch.ones(local, dtype=dtype)
        stride = torch.empty(shape, device="meta").stride()
        state[name] = DTensor.from_local(part, where, placements, run_check=False, shape=torch.Size(shape), stride=stride)
        size += part.numel() * part.itemsize
    return state, size


shapes, seconds, total = full_shapes(), 0.0, 0
torch.set_num_threads(1)
for rank in range(ranks):
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    state, size = state_of(shapes, init_device_mesh("cpu", mesh_of()), init_device_mesh("cpu", (ranks,)))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        dcp.load(state, storage_reader=HuggingFaceStorageReader(path, thread_count=threads), no_dist=True)
        times.append(time.perf_counter() - begin)
    seconds += min(times)
    total += size
    dist.destroy_process_group()
print(f"{seconds:.6f} {total}")
