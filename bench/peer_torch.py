"""The peer: torch's own consolidation, timed: peer_torch.py INPUT OUTPUT MAP.

Alone it is consolidate_safetensors_files, under torchrun its form on every rank. Prints seconds and the peak
resident bytes of this rank. What is in OUTPUT is removed at the last moment, as run.py does for the others.
"""

import json
import os
import resource
import shutil
import sys
import time

import torch.distributed as dist
from torch.distributed.checkpoint import _consolidate_hf_safetensors as torchs

source, target, mapping = sys.argv[1:4]
with open(mapping) as f:
    files = json.load(f)
everyone = int(os.environ.get("WORLD_SIZE", "1")) > 1
consolidate = torchs.consolidate_safetensors_files_on_every_rank if everyone else torchs.consolidate_safetensors_files
if everyone:
    dist.init_process_group("gloo")
if not everyone or dist.get_rank() == 0:
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
if everyone:
    dist.barrier()
begin = time.perf_counter()
consolidate(source, target, files)
if everyone:
    dist.barrier()
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
if not everyone or dist.get_rank() == 0:
    print(f"{seconds:.6f} {peak}")
if everyone:
    dist.destroy_process_group()
