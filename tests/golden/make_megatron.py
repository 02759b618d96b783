#!/usr/bin/env python3
"""Make the golden fixture of Megatron-Core's torch_dist checkpoints: .metadata beside .distcp files, common.pt and metadata.json.

    python3 make_megatron.py NAME [DIR]        DIR = where this file is

Needs torch and megatron-core, without a GPU: two functions of torch.cuda that wait for one are taken out. Two processes save
what a training job of two tensor-parallel ranks holds into DIR/distcp_NAME/in; DIR/distcp_NAME/out is written by safetensors'
save_file from the full tensors. distcp_megatron15 was made with megatron-core 0.15.3, whose .metadata is of a class of
Megatron's own, distcp_megatron16 with 0.16.1; both with torch 2.13.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor
from safetensors.torch import save_file

RANKS = 2
# name: (shape, dtype, the dimension that tensor parallelism cuts; None = each rank has it)
MODEL = {
    "embedding.word_embeddings.weight": ((12, 6), torch.bfloat16, 0),
    "decoder.layers.self_attention.linear_qkv.weight": ((2, 8, 6), torch.bfloat16, 1),
    "decoder.layers.self_attention.linear_proj.weight": ((2, 6, 8), torch.bfloat16, 2),
    "decoder.final_layernorm.weight": ((6,), torch.float32, None),
}
OPTIMIZER = {"optimizer.state.exp_avg.decoder.final_layernorm.weight": ((6,), torch.float32, None)}


def full(shape, dtype):
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


def held(rank, tensors):
    """What a rank has of them, as Megatron's layers describe it."""
    out = {}
    for key, (shape, dtype, dim) in tensors.items():
        whole = full(shape, dtype)
        if dim is None:
            out[key] = ShardedTensor.from_rank_offsets(key, whole, replica_id=rank)
        else:
            out[key] = ShardedTensor.from_rank_offsets(key, whole.chunk(RANKS, dim)[rank].contiguous(), (dim, rank, RANKS))
    return out


def save(rank, where, meeting):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.current_device = lambda: torch.device("cpu")
    extra = ShardedObject("decoder.layers._extra_state", {"scale": 1}, (RANKS,), (rank,))
    state = {"model": {**held(rank, MODEL), "extra": extra}, "optimizer": held(rank, OPTIMIZER), "iteration": 7}
    dist_checkpointing.save(state, where)
    dist.barrier()
    os._exit(0)


def main():
    name = sys.argv[1]
    root = Path(sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__)))
    where = root / f"distcp_{name}"
    shutil.rmtree(where, ignore_errors=True)
    (where / "in").mkdir(parents=True)
    (where / "out").mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, __file__, str(where / "in"), os.path.join(scratch, "meeting")]
        ranks = [subprocess.Popen(words, env={**os.environ, "RANK": str(r), "OMP_NUM_THREADS": "1"}) for r in range(RANKS)]
        assert [p.wait() for p in ranks] == [0] * RANKS
    wanted = {key: full(shape, dtype) for key, (shape, dtype, _) in MODEL.items()}
    save_file(wanted, where / "out" / "model.safetensors", metadata={"format": "pt"})
    (where / "args").write_text("--no-assets\n")


if __name__ == "__main__":
    if "RANK" in os.environ:
        save(int(os.environ["RANK"]), *sys.argv[1:])
    main()
