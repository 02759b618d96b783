"""One rank of transformers' Trainer with FSDP2 on the CPU, which saves after two steps: trainer_save.py DIR.

DIR/checkpoint-2 is Trainer's; DIR/state.pt the state dict of the model as it is in the end."""

import os
import sys

import torch
import torch.distributed as dist
from cpu_fsdp import allow_cpu
from models_zoo import IDS, make
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import Trainer, TrainingArguments

FSDP = {"version": 2, "fsdp_version": 2, "state_dict_type": "SHARDED_STATE_DICT", "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}  # fmt: skip


def main():
    where = sys.argv[1]
    os.environ.update(ACCELERATE_USE_CPU="1", FSDP_VERSION="2", LOCAL_RANK=os.environ["RANK"])
    torch.set_num_threads(1)
    allow_cpu()
    args = TrainingArguments(where, use_cpu=True, max_steps=2, save_steps=2, per_device_train_batch_size=1, report_to=[],
                             fsdp="full_shard", fsdp_config=FSDP, disable_tqdm=True)  # fmt: skip
    rows = [{"input_ids": IDS[0], "labels": IDS[0]}] * 8
    trainer = Trainer(model=make("llama").float(), args=args, train_dataset=rows)
    trainer.train()
    state = get_model_state_dict(trainer.model_wrapped, options=StateDictOptions(full_state_dict=True))
    if dist.get_rank() == 0:
        torch.save(state, f"{where}/state.pt")
    dist.barrier()


if __name__ == "__main__":
    main()
