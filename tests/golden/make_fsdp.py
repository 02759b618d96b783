#!/usr/bin/env python3
"""Make the golden fixtures of FSDP saves by accelerate and by transformers' Trainer: .metadata beside .distcp files.

    python3 make_fsdp.py [DIR]        DIR = where this file is

Needs torch 2.13, accelerate 1.15 and transformers 5.23. Two processes on the CPU train a small Llama with FSDP2 for a step;
accelerate's save_state() and Trainer save, each into a directory of their own, of which pytorch_model_fsdp_0 becomes
DIR/distcp_NAME/in. DIR/distcp_NAME/out is written by safetensors' save_file from the full state dict of the trained model.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "torch"))
from cpu_fsdp import allow_cpu  # noqa: E402

RANKS = 2
LAYER = "LlamaDecoderLayer"
IDS = torch.arange(6).reshape(1, 6)


def model():
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "intermediate_size": 10, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=11, max_position_embeddings=8, tie_word_embeddings=False, **sizes))


def by_accelerate(where):
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="SHARDED_STATE_DICT", reshard_after_forward=True,
                                            auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=[LAYER])  # fmt: skip
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    net = model()
    net, optimizer = accelerator.prepare(net, torch.optim.AdamW(net.parameters(), lr=0.1))
    accelerator.backward(net(input_ids=IDS, labels=IDS).loss)
    optimizer.step()
    accelerator.save_state(str(where))
    return net


def by_trainer(where):
    fsdp = {"version": 2, "fsdp_version": 2, "state_dict_type": "SHARDED_STATE_DICT", "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": [LAYER]}  # fmt: skip
    args = TrainingArguments(str(where), use_cpu=True, max_steps=1, save_steps=1, per_device_train_batch_size=1, report_to=[],
                             fsdp=True, fsdp_config=fsdp, disable_tqdm=True)  # fmt: skip
    trainer = Trainer(model=model(), args=args, train_dataset=[{"input_ids": IDS[0], "labels": IDS[0]}] * 4)
    trainer.train()
    return trainer.model_wrapped


# name: (who trains and saves, where its model lies then)
SAVERS = {"accelerate": (by_accelerate, "."), "trainer": (by_trainer, "checkpoint-1")}


def one_rank(name, where):
    os.environ.update(ACCELERATE_USE_CPU="1", FSDP_VERSION="2", LOCAL_RANK=os.environ["RANK"])
    torch.set_num_threads(1)
    allow_cpu()
    net = SAVERS[name][0](where / "run")
    full = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    if dist.get_rank() == 0:
        save_file({k: v.clone().contiguous() for k, v in full.items()}, where / "model.safetensors", metadata={"format": "pt"})
    dist.barrier()
    dist.destroy_process_group()


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
    for name, (_, below) in SAVERS.items():
        golden = root / f"distcp_{name}"
        shutil.rmtree(golden, ignore_errors=True)
        (golden / "out").mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}", "--standalone"]
            subprocess.run([*torchrun, os.path.abspath(__file__), name, scratch], check=True)
            shutil.copytree(Path(scratch) / "run" / below / "pytorch_model_fsdp_0", golden / "in")
            shutil.copyfile(Path(scratch) / "model.safetensors", golden / "out" / "model.safetensors")


if __name__ == "__main__":
    if "RANK" in os.environ:
        one_rank(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
