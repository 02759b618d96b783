"""All that a rank of the table does through Python: job.py CHECKPOINTS OUT. For each checkpoint: welded, resharded, and saved by ranks that
hold its boxes in memory; under torchrun over gloo, and welded by the drop-in too."""

import os
import sys

import numpy as np

import shardweld
from shardweld._comm import open_comm


def held(path, rank, size):
    """What this rank holds of a checkpoint: the boxes of every size-th shard file, as save() takes them."""
    out = {}
    with shardweld.Checkpoint(path, comm="self") as checkpoint:
        for name in checkpoint:
            tensor = checkpoint.tensor(name)
            boxes = checkpoint.boxes(name)
            files = sorted({box.file for box in boxes})
            for box in boxes:
                if files.index(box.file) % size != rank:
                    continue
                count = int(np.prod(box.shape, dtype=np.int64))
                width = box.nbytes // count if count else 1
                raw = np.fromfile(os.path.join(path, box.file), np.uint8, box.nbytes, offset=box.at)
                data = raw.view(f"u{width}").reshape(box.shape)
                out.setdefault(name, []).append(shardweld.Box(data, box.offsets, tensor.shape, tensor.dtype))
    return out


def main(checkpoints, out):
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if torchrun:
        import torch.distributed as dist

        dist.init_process_group("gloo")
    with open_comm() as comm:
        rank, size = comm.rank, comm.size
    for name in sorted(os.listdir(checkpoints)):
        source, to = os.path.join(checkpoints, name), os.path.join(out, name)
        stats = shardweld.weld(source, f"{to}-weld", buffer_size="64KiB", no_sync=True)
        assert stats.stats["ranks"] == size, stats
        shardweld.reshard(source, f"{to}-reshard", "2x3", "shard0,shard1", no_sync=True)
        shardweld.save(f"{to}-save", held(source, rank, size), no_sync=True)
        if torchrun:
            shardweld.consolidate_safetensors_files_on_every_rank(source, f"{to}-drop-in", None)
    if torchrun:
        dist.destroy_process_group()
    if rank == 0:
        print("ranks", size)


main(*sys.argv[1:])
