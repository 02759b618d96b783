"""One rank of a training job that saves every checkpoint of models_zoo.

    python models_save.py ROOT RANK RANKS        leaves ROOT/NAME/in; ROOT/plain and ROOT/assets are there
"""

import json
import os
import shutil
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import transformers
from models_zoo import QUANTIZE, SAVES, full_state, make, quantized
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from transformers.distributed import DistributedConfig


def fsdp_state(save, mesh):
    model = make(save.model).to(save.dtype)
    layers = model.model.layers if hasattr(model, "model") else model.resnet.encoder.stages
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return get_model_state_dict(model)


def places(tensor):
    """Rows over the first dimension of the mesh, columns over the second."""
    if tensor.dim() > 1:
        return [Shard(0), Shard(tensor.dim() - 1 if tensor.shape[1] == 1 else 1)]
    return [Replicate(), Shard(0) if tensor.dim() else Replicate()]


def grid_state(save, plain, mesh):
    full = full_state(save, make(save.model), plain)
    # Every rank has the full tensor and takes its part: nothing is sent.
    return {fqn: distribute_tensor(t, mesh, places(t), src_data_rank=None) for fqn, t in full.items()}


def save_by_dcp(save, state, directory):
    state = {save.prefix + fqn: t for fqn, t in state.items() if fqn not in save.drop}
    files = file_map(state, save.nfiles) if save.nfiles else None
    writer = HuggingFaceStorageWriter(directory, fqn_to_index_mapping=files, save_distributed=True)
    # DCP takes a dot for a level of nesting when it flattens; ours are flat.
    dcp.save(state, storage_writer=writer, planner=DefaultSavePlanner(flatten_state_dict=False))


def file_map(names, nfiles):
    return {fqn: 1 + i % nfiles for i, fqn in enumerate(sorted(names))}


def save_metadata(save, state, assets, directory):
    """As trainers leave it for who consolidates: the files and the maps of the model that they began with."""
    where = os.path.join(directory, ".hf_metadata")
    shutil.copytree(assets, where)
    original = {fqn: t for fqn, t in state.items() if t.is_floating_point()} if save.how == "fsdp" else state
    if save.model in QUANTIZE:
        original = quantized(save.model, make(save.model))
        if save.how == "fsdp":
            forget_quantization(os.path.join(where, "config.json"))
    files = file_map([fqn for fqn in state if fqn not in save.drop], save.nfiles)
    write_json(os.path.join(where, "fqn_to_file_index_mapping.json"), {fqn: files.get(fqn, 1) for fqn in {**original, **state}})
    write_json(os.path.join(where, "fqn_to_dtype_mapping.json"), {fqn: dtype_word(fqn, t) for fqn, t in original.items()})


def forget_quantization(path):
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    del config["quantization_config"]
    write_json(path, config)


def write_json(path, content):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(content, f, indent=2, sort_keys=True)


def dtype_word(fqn, tensor):
    """Of the model that the job began with: BF16, but for what is quantized, and its scales."""
    if fqn.endswith("_scale_inv"):
        return "F32"
    return {torch.uint8: "U8", torch.float8_e4m3fn: "F8_E4M3"}.get(tensor.dtype, "BF16")


def save_by_transformers(save, plain, directory):
    config = DistributedConfig(**save.mesh)
    model = transformers.AutoModelForCausalLM.from_pretrained(plain, distributed_config=config, dtype=save.dtype)
    model.save_pretrained(directory, distributed_checkpoint=True)


def run(root, rank):
    meshes = {"fsdp": init_device_mesh("cpu", (dist.get_world_size(),)), "grid": init_device_mesh("cpu", (2, 2))}
    for name, save in SAVES.items():
        plain, directory = os.path.join(root, "plain", save.model), os.path.join(root, name, "in")
        if save.how == "transformers":
            save_by_transformers(save, plain, directory)
            continue
        state = fsdp_state(save, meshes["fsdp"]) if save.how == "fsdp" else grid_state(save, plain, meshes["grid"])
        save_by_dcp(save, state, directory)
        if rank == 0 and save.nfiles:
            save_metadata(save, state, os.path.join(root, "assets", save.model), directory)


def main():
    root, rank, ranks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{root}/meeting", rank=rank, world_size=ranks)
    run(root, rank)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
