"""The peer: torch's own consolidation, or NeMo Automodel's, timed: peer_torch.py INPUT OUTPUT MAP MODULE.

Alone it is the module's consolidate_safetensors_files, under torchrun its form on every rank. Prints seconds and the peak
resident bytes of this rank. What is in OUTPUT is removed at the last moment, as run.py does for the others.
"""

import importlib
import json
import os
import resource
import shutil
import sys
import time

import torch.distributed as dist

source, target, mapping, module = sys.argv[1:]
theirs = importlib.import_module(module)
with open(mapping) as f:
    files = json.load(f)
everyone = int(os.environ.get("WORLD_SIZE", "1")) > 1
consolidate = theirs.consolidate_safetensors_files_on_every_rank if everyone else theirs.consolidate_safetensors_files
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
