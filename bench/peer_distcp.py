"""The peers that merge torch's own format: peer_distcp.py accelerate|dcp_to_torch_save INPUT OUTPUT.

Prints seconds and the peak resident bytes. What is in OUTPUT is removed at the last moment, as run.py does for the others."""

import os
import resource
import shutil
import sys
import time

import torch
from accelerate.utils import merge_fsdp_weights
from safetensors.torch import save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

way, source, target = sys.argv[1:4]
shutil.rmtree(target, ignore_errors=True)
os.makedirs(target)
begin = time.perf_counter()
if way == "accelerate":
    merge_fsdp_weights(source, target, safe_serialization=True)
else:
    path = os.path.join(target, "model.pt")
    dcp_to_torch_save(source, path)
    save_file(torch.load(path)["model"], os.path.join(target, "model.safetensors"), metadata={"format": "pt"})
print(f"{time.perf_counter() - begin:.6f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")
