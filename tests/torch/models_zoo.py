"""Tiny models of the kinds that people train, made from a config, and the checkpoints that a training job leaves of them.

A model is a function of its name alone: every process that asks for one gets the same bits. SAVES lists what is
saved, from which model and how; models_save.py does it on the ranks of a training job.
"""

import json
import os
from dataclasses import dataclass, field

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 96}
IDS = torch.tensor([[1, 5, 9, 42, 95, 3, 17], [2, 2, 80, 33, 64, 8, 0]])
BLOCK = 128  # of FP8
GROUP = 32  # of MXFP4
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


def llama_config(hidden=32, intermediate=48, **more):
    return transformers.LlamaConfig(hidden_size=hidden, intermediate_size=intermediate, **{**HEADS, **more})


def mixtral_config():
    return transformers.MixtralConfig(hidden_size=32, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, **HEADS)


def qwen_moe_config():
    return transformers.Qwen3MoeConfig(
        hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_experts=8, num_experts_per_tok=2, head_dim=8, **HEADS
    )


def gpt_oss_config():
    layers = ["sliding_attention", "full_attention"]
    return transformers.GptOssConfig(
        hidden_size=64, intermediate_size=96, num_local_experts=4, num_experts_per_tok=2, head_dim=16, layer_types=layers, **HEADS
    )


def resnet_config():
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 2], layer_type="basic", num_labels=5)


CONFIGS = {
    "llama": llama_config,
    "tied": lambda: llama_config(tie_word_embeddings=True),
    "mixtral": mixtral_config,
    "qwen-moe": qwen_moe_config,
    "gpt-oss": gpt_oss_config,
    "fp8": lambda: llama_config(hidden=256, intermediate=384, num_hidden_layers=1),
    "resnet": resnet_config,
}


def fill(model):
    """Every weight random, so that no two of them may be taken for one another; buffers of norms stay sensible."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                tensor.fill_(7)
                continue
            value = torch.randn(tensor.shape, generator=generator) * 0.1
            if name.endswith(("norm.weight", "layernorm.weight", "running_var")):
                value = 1 + value.abs()
            tensor.copy_(value)
    return model.eval()


def unet():
    from diffusers import UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    return UNet2DModel(sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, attention_head_dim=4, **blocks)


def new(name, dtype=torch.float32):
    kind = transformers.AutoModelForImageClassification if name == "resnet" else transformers.AutoModelForCausalLM
    return kind.from_config(CONFIGS[name](), attn_implementation="eager", dtype=dtype)


def make(name):
    """The model, in float32; the quantized ones with the values that they have when they are dequantized."""
    if name == "unet":
        return fill(unet())
    model = fill(new(name))
    if name in QUANTIZE:
        model.to(torch.bfloat16).load_state_dict(dequantized(quantized(name, model)))
    return model


# ---- quantized checkpoints, as they are shipped -------------------------------------------------------


def random_bytes(name, shape, low, high):
    generator = torch.Generator().manual_seed(len(name) + 1000 * sum(map(ord, name)))
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=generator)


def mxfp4(fqn, weight):
    """X [E, C, R] as X_blocks [E, R, C / 32, 16], two numbers a byte, and X_scales [E, R, C / 32]."""
    experts, columns, rows = weight.shape
    shape = (experts, rows, columns // GROUP)
    return {
        f"{fqn}_blocks": random_bytes(f"{fqn}_blocks", (*shape, GROUP // 2), 0, 256),
        f"{fqn}_scales": random_bytes(f"{fqn}_scales", shape, 118, 125),
    }


def mxfp4_back(blocks, scales):
    table = torch.tensor(FP4)
    numbers = torch.stack([table[(blocks & 15).long()], table[(blocks >> 4).long()]], dim=-1)
    scaled = numbers.flatten(-2) * torch.exp2(scales.float() - 127).unsqueeze(-1)
    return scaled.flatten(-2).transpose(1, 2).contiguous()


def blocks_of(shape):
    return tuple(-(-n // BLOCK) for n in shape)


def spread(scale, shape):
    """A scale a block as one an element."""
    return scale.repeat_interleave(BLOCK, 0)[: shape[0]].repeat_interleave(BLOCK, 1)[:, : shape[1]]


def fp8(fqn, weight):
    rows, columns = blocks_of(weight.shape)
    scale = 0.0005 * (1 + torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns) % 7)
    quantized = (weight.float() / spread(scale, weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return {fqn: quantized, f"{fqn}_scale_inv": scale}


QUANTIZE = {"gpt-oss": (("gate_up_proj", "down_proj"), mxfp4), "fp8": (("proj.weight",), fp8)}
QUANTIZATION = {
    "gpt-oss": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                                    "model.embed_tokens", "lm_head"]},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK],
            "modules_to_not_convert": ["lm_head"]},
}  # fmt: skip


def quantized(name, model):
    """The checkpoint's tensors: what has scales, and the others in BF16."""
    ends, quantize = QUANTIZE[name]
    state = {}
    for fqn, tensor in model.state_dict().items():
        state.update(quantize(fqn, tensor) if fqn.endswith(ends) else {fqn: tensor.to(torch.bfloat16)})
    return state


def dequantized(state, dtype=torch.bfloat16):
    out = {}
    for fqn, tensor in state.items():
        if fqn.endswith("_blocks"):
            fqn = fqn.removesuffix("_blocks")
            out[fqn] = mxfp4_back(tensor, state[f"{fqn}_scales"]).to(dtype)
        elif f"{fqn}_scale_inv" in state:
            out[fqn] = (tensor.float() * spread(state[f"{fqn}_scale_inv"], tensor.shape)).to(dtype)
        elif not fqn.endswith(("_scales", "_scale_inv")):
            out[fqn] = tensor
    return out


# ---- what stands beside the weights -------------------------------------------------------------------


def tokenizer():
    words = {f"w{i}": i for i in range(HEADS["vocab_size"])}
    made = Tokenizer(models.WordLevel(words, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="w0", eos_token="w1", chat_template="{% for m in messages %}{{ m.content }}{% endfor %}"
    )


def save_assets(name, model, directory):
    """config.json and what else a job copies from the model that it began with, whose weights were BF16."""
    os.makedirs(directory, exist_ok=True)
    if name == "unet":
        model.save_config(directory)
        return
    model.config.architectures = [type(model).__name__]
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["dtype"] = "float32" if name == "resnet" else "bfloat16"
    if name in QUANTIZATION:
        config["quantization_config"] = QUANTIZATION[name]
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if name != "resnet":
        model.generation_config.save_pretrained(directory)
        tokenizer().save_pretrained(directory)


# ---- what is saved ------------------------------------------------------------------------------------


@dataclass
class Save:
    """A checkpoint of a training job.
    how: "fsdp" (fully_shard); "grid" (each tensor by its name, rows and columns on a mesh of 2 x 2); "transformers"
    (sharded and saved by transformers itself)."""

    model: str
    how: str
    about: str
    prefix: str = ""  # before every name
    names: str = "model"  # "model": of the modules; "hub": as save_pretrained writes them
    drop: tuple = ()  # names that are not saved
    nfiles: int = 0  # .hf_metadata with a map to so many files; 0 = no .hf_metadata
    dtype: torch.dtype = torch.float32  # of the job
    mesh: dict = field(default_factory=dict)  # transformers' DistributedConfig


SAVES = {
    "llama": Save("llama", "fsdp", "FSDP2, and nothing beside the shards"),
    "llama-hf": Save("llama", "fsdp", "FSDP2, trained in F32 from a BF16 model, with .hf_metadata", nfiles=3),
    "llama-compiled": Save("llama", "fsdp", "names of torch.compile", prefix="_orig_mod."),
    "llama-nested": Save("llama", "fsdp", "the model as a member of the job's state", prefix="model."),
    "tied": Save("tied", "fsdp", "both of the tied names are saved, in two files: DCP refuses one", nfiles=2),
    "tied-hf": Save("tied", "fsdp", "the head is in the map but not in the shards", drop=("lm_head.weight",), nfiles=2),
    "mixtral": Save("mixtral", "fsdp", "experts fused, as in memory"),
    "mixtral-hub": Save("mixtral", "grid", "an expert a tensor, as on the hub, with .hf_metadata", names="hub", nfiles=2),
    "qwen-moe": Save("qwen-moe", "grid", "128 small tensors on a grid", names="hub", dtype=torch.bfloat16),
    "gpt-oss": Save("gpt-oss", "grid", "MXFP4 blocks and scales, as OpenAI ships them", nfiles=2, dtype=torch.bfloat16),
    "gpt-oss-bf16": Save("gpt-oss", "fsdp", "trained in BF16", dtype=torch.bfloat16),
    "fp8": Save("fp8", "grid", "FP8 in blocks, weight_scale_inv", dtype=torch.bfloat16),
    "fp8-trained": Save("fp8", "fsdp", "trained in BF16 from an FP8 model: its maps", nfiles=2, dtype=torch.bfloat16),
    "resnet": Save("resnet", "fsdp", "convolutions, and norms with buffers"),
    "unet": Save("unet", "grid", "a model of diffusers"),
    "own-fsdp": Save("llama", "transformers", "FSDP2 over 4", mesh={"fsdp_size": 4}),
    "own-tp": Save("llama", "transformers", "tensor parallel", mesh={"tp_size": 2, "fsdp_size": 2}),
    "own-hsdp": Save("tied", "transformers", "replicated over 2, FSDP2 over 2", mesh={"fsdp_size": 2, "dp_replicate_size": 2}),
    "own-moe": Save("mixtral", "transformers", "FSDP2 over 4", mesh={"fsdp_size": 4}),
    "own-ep": Save("qwen-moe", "transformers", "experts parallel", mesh={"fsdp_size": 4, "ep_size": 2}),
}  # fmt: skip


def full_state(save, model, plain):
    """The full tensors of a save on a grid; plain: a directory of save_pretrained."""
    if save.model in QUANTIZE:
        return quantized(save.model, model)
    state = load_file(os.path.join(plain, "model.safetensors")) if save.names == "hub" else model.state_dict()
    return {fqn: t.to(save.dtype) if t.is_floating_point() else t for fqn, t in state.items()}
