"""From a training job to the loaders: real models, sharded and saved over 4 ranks, welded, load as if they had never been cut.

What a loader must find is checked three ways: every tensor in the files is the one expected, with its bits; transformers
and diffusers load the directory without a word and compute the same; and the rules of other loaders hold.
"""

import filecmp
import json
import logging
import os
import subprocess
import sys
import warnings as python_warnings
from dataclasses import dataclass

import models_zoo as zoo
import pytest
import torch
import transformers
from gguf.utility import SafetensorsLocal
from runner import SHARDWELD, run, show
from runner import warnings as warnings_of
from safetensors import safe_open
from safetensors.torch import save_file

RANKS = 4
HERE = os.path.dirname(os.path.abspath(__file__))
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
QUIET = {"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}


@dataclass
class Weld:
    """One run of the program: of which save, with which options, and what comes of it."""

    save: str
    args: tuple = ()  # for consolidate and for verify
    only: tuple = ()  # for consolidate; "ASSETS" is the directory of the model's other files
    files: torch.dtype = F32  # floating-point tensors in the output
    loads: torch.dtype = F32  # the model that comes of it: config.json says so
    dequantize: str = ""  # "loader": by who loads it; "welder": it is done
    says: tuple = ()  # a word of each warning that is expected


ASSETS = ("--assets", "ASSETS")
STRIP = ("--strip-prefix", "_orig_mod.")
BF16_ARGS = ("--cast-dtype", "bf16")
WELDS = {
    "llama": Weld("llama", only=ASSETS, loads=BF16),
    "llama cast": Weld("llama", BF16_ARGS, ASSETS, BF16, BF16),
    "llama cast fp16": Weld("llama", ("--cast-dtype", "fp16"), ASSETS, F16, F16),
    "llama by size": Weld("llama", ("--max-shard-size", "20KB", *BF16_ARGS), ASSETS, BF16, BF16),
    "llama in one file": Weld("llama", ("--single-file",), (*ASSETS, "--verify"), F32, BF16),
    "llama restored": Weld("llama-hf", (), (), BF16, BF16),
    "llama restored, fp16": Weld("llama-hf", ("--cast-dtype", "fp16"), (), F16, F16),
    "compiled": Weld("llama-compiled", STRIP, ASSETS, F32, BF16),
    "compiled, renamed, cast": Weld("llama-compiled", ("--rename", "_orig_mod.=", *BF16_ARGS), ASSETS, BF16, BF16),
    "nested": Weld("llama-nested", ("--strip-prefix", "model."), ASSETS, F32, BF16),
    "tied": Weld("tied", (), (), BF16, BF16),
    "tied, not saved": Weld("tied-hf", (), (), BF16, BF16, says=("lm_head.weight",)),
    "mixtral": Weld("mixtral", (), ASSETS, F32, BF16),
    "mixtral by size": Weld("mixtral", ("--max-shard-size", "40KB", *BF16_ARGS), ASSETS, BF16, BF16),
    "mixtral of the hub": Weld("mixtral-hub", (), (), BF16, BF16),
    "qwen-moe": Weld("qwen-moe", (), ASSETS, BF16, BF16),
    "gpt-oss": Weld("gpt-oss", (), (), BF16, BF16, "loader"),
    "gpt-oss dequantized": Weld("gpt-oss", ("--dequantize", "bf16"), (), BF16, BF16, "welder"),
    "gpt-oss trained in bf16": Weld("gpt-oss-bf16", ("--dequantize", "bf16"), ASSETS, BF16, BF16, "welder", ("nothing",)),
    "fp8": Weld("fp8", (), ASSETS, BF16, BF16, "loader"),
    "fp8 dequantized": Weld("fp8", ("--dequantize", "bf16"), ASSETS, BF16, BF16, "welder"),
    "fp8 trained in bf16": Weld("fp8-trained", (), (), BF16, BF16, says=("weight_scale_inv", "dtype")),
    "resnet": Weld("resnet", (), ASSETS),
    "resnet cast": Weld("resnet", BF16_ARGS, ASSETS, BF16, BF16),
    "diffusers": Weld("unet", ("--diffusers",), ASSETS),
    "diffusers by size": Weld("unet", ("--diffusers", "--max-shard-size", "50KB"), ASSETS),
    "diffusers in one file": Weld("unet", ("--diffusers", "--single-file"), ASSETS),
    "own fsdp": Weld("own-fsdp"),
    "own fsdp, cast": Weld("own-fsdp", BF16_ARGS, (), BF16, BF16),
    "own tensor parallel": Weld("own-tp"),
    "own hsdp": Weld("own-hsdp"),
    "own moe": Weld("own-moe"),
    "own experts parallel": Weld("own-ep"),
}


# ---- the training job -----------------------------------------------------------------------------------


def prepare(root):
    for model in sorted({save.model for save in zoo.SAVES.values()}):
        made = zoo.make(model)
        made.save_pretrained(root / "plain" / model)
        zoo.save_assets(model, made, root / "assets" / model)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    if not os.access(SHARDWELD, os.X_OK):
        pytest.fail(f"{SHARDWELD} is not there: build it, or set SHARDWELD")
    root = tmp_path_factory.mktemp("models")
    prepare(root)
    env = {**os.environ, **QUIET, "WORLD_SIZE": str(RANKS), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, os.path.join(HERE, "models_save.py"), str(root)]
    log = root / "job.log"
    with open(log, "wb") as out:
        ranks = [
            subprocess.Popen([*command, str(r), str(RANKS)], env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}, stdout=out, stderr=out)
            for r in range(RANKS)
        ]
        try:
            status = [p.wait(timeout=180) for p in ranks]
        finally:
            for p in ranks:
                p.kill()
    assert status == [0] * RANKS, log.read_text(errors="replace")[-5000:]
    return root


# ---- the weld -------------------------------------------------------------------------------------------


def options(root, weld):
    assets = root / "assets" / zoo.SAVES[weld.save].model
    return [*weld.args, *(assets if word == "ASSETS" else word for word in weld.only)]


def weld_it(root, weld, out, np):
    result = run(["consolidate", *options(root, weld), root / weld.save / "in", out], np=np)
    assert result.status == 0 and result.stdout == "", show(result)
    said = warnings_of(result)
    assert len(result.stderr.splitlines()) == len(said) == len(weld.says), show(result)
    assert all(any(word in line for line in said) for word in weld.says), show(result)


@pytest.fixture(scope="module", params=WELDS, ids=lambda name: name.replace(" ", "-").replace(",", ""))
def welded(request, root):
    weld = WELDS[request.param]
    out = root / "out" / request.param
    weld_it(root, weld, out, 2)
    return root, weld, out


def test_alone_gives_the_same(welded, tmp_path):
    root, weld, out = welded
    weld_it(root, weld, tmp_path / "out", None)
    names = sorted(os.listdir(out))
    assert sorted(os.listdir(tmp_path / "out")) == names
    assert filecmp.cmpfiles(out, tmp_path / "out", names, shallow=False) == (names, [], [])


def test_verify(welded):
    root, weld, out = welded
    result = run(["verify", "-q", *weld.args, root / weld.save / "in", out], np=2)
    assert result.status == 0 and not result.stderr, show(result)


def test_inspect(welded):
    root, weld, out = welded
    for path in (root / weld.save / "in", out):
        result = run(["inspect", path])
        assert result.status == 0 and result.stdout and not result.stderr, show(result)


# ---- what is in the files -------------------------------------------------------------------------------


def expected(root, weld):
    """The full tensors, by the names and with the dtypes of the output."""
    save = zoo.SAVES[weld.save]
    model = zoo.make(save.model)
    if save.how == "grid":
        state = zoo.full_state(save, model, root / "plain" / save.model)
    else:
        state = model.state_dict()
    if weld.dequantize == "welder":
        state = zoo.dequantized(state)
    floating = (F32, BF16, F16)
    state = {fqn: t.to(save.dtype).to(weld.files) if t.dtype in floating else t for fqn, t in state.items()}
    if weld.dequantize == "loader":  # scales are left alone
        state.update({fqn: t for fqn, t in zoo.full_state(save, model, None).items() if fqn.endswith("_scale_inv")})
    return {fqn: t for fqn, t in state.items() if fqn not in save.drop}


def weight_files(out):
    return sorted(name for name in os.listdir(out) if name.endswith(".safetensors"))


def tensors_of(out):
    tensors = {}
    for name in weight_files(out):
        with safe_open(out / name, "pt") as f:
            assert f.metadata() == {"format": "pt"}
            tensors.update({fqn: f.get_tensor(fqn) for fqn in f.keys()})
    return tensors


def bytes_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def test_the_tensors_are_those_of_the_model(welded):
    root, weld, out = welded
    got, want = tensors_of(out), expected(root, weld)
    assert sorted(got) == sorted(want)
    for fqn, tensor in want.items():
        assert got[fqn].dtype == tensor.dtype and got[fqn].shape == tensor.shape, fqn
        assert bytes_of(got[fqn]) == bytes_of(tensor), fqn


# ---- transformers and diffusers -------------------------------------------------------------------------


class Messages(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.seen = []

    def emit(self, record):
        self.seen.append(record.getMessage())


def load(kind, out, **more):
    """The model, in evaluation mode; there must be nothing to say about it. Its weights get memory of their own: mapped
    from a file they begin anywhere, and some kernels round by where they begin."""
    handler, loggers = Messages(), [logging.getLogger(name) for name in ("transformers", "diffusers", "accelerate")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with python_warnings.catch_warnings(record=True) as warned:
            python_warnings.simplefilter("always")
            model, info = kind.from_pretrained(out, output_loading_info=True, **more)
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    told = [str(w.message) for w in warned if issubclass(w.category, UserWarning)]
    said = [message for message in handler.seen if "inference on CPU" not in message]  # MXFP4: true of any such model here
    assert not said and not told, said + told
    assert not any(info.values()), info
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone()
    return model.eval()


def compute(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        if isinstance(model, transformers.ResNetForImageClassification):
            return model(torch.randn(2, 3, 32, 32, generator=generator).to(model.dtype)).logits
        if isinstance(model, transformers.PreTrainedModel):
            return model(zoo.IDS).logits
        return model(torch.randn(2, 3, 8, 8, generator=generator).to(model.dtype), 4).sample


def reference(weld):
    """The model with the same weights, which were never in a file. Not .to(dtype): that rounds tables that are computed."""
    save = zoo.SAVES[weld.save]
    trained = zoo.make(save.model)
    if save.model == "unet":
        return trained
    weights = {fqn: t.to(save.dtype).to(weld.files) if t.is_floating_point() else t for fqn, t in trained.state_dict().items()}
    model = zoo.new(save.model, weld.loads)
    model.load_state_dict(weights)
    return model.eval()


def kind_of(weld):
    model = zoo.SAVES[weld.save].model
    if model == "unet":
        from diffusers import UNet2DModel

        return UNet2DModel, {}
    if model == "resnet":
        return transformers.AutoModelForImageClassification, {}
    more = {"attn_implementation": "eager"}
    if weld.dequantize == "loader":
        config = transformers.Mxfp4Config if model == "gpt-oss" else transformers.FineGrainedFP8Config
        more["quantization_config"] = config(dequantize=True)
    return transformers.AutoModelForCausalLM, more


def test_it_loads_and_computes_the_same(welded):
    _, weld, out = welded
    kind, more = kind_of(weld)
    model = load(kind, out, **more)
    assert model.dtype == weld.loads
    want = compute(reference(weld))
    assert want.isfinite().all() and want.std() > 0
    assert torch.equal(compute(model), want)


def test_the_other_files_came_along(welded):
    root, weld, out = welded
    save = zoo.SAVES[weld.save]
    with open(out / "config.json", encoding="utf-8") as f:
        config = json.load(f)
    if save.model == "unet":
        assert config["_class_name"] == "UNet2DModel"
        return
    assert config["dtype"] == str(weld.loads).removeprefix("torch.")
    assert ("quantization_config" in config) == (weld.dequantize == "loader")
    if "tokenizer.json" in os.listdir(out):
        text = "w3 w1 w4"
        assert transformers.AutoTokenizer.from_pretrained(out)(text)["input_ids"] == zoo.tokenizer()(text)["input_ids"] == [3, 1, 4]
        chat = transformers.AutoTokenizer.from_pretrained(out).apply_chat_template([{"role": "user", "content": "w3"}], tokenize=False)
        assert chat == "w3"
    else:
        assert save.how == "transformers" or save.model == "resnet"


# ---- the rules of others --------------------------------------------------------------------------------


def index_of(out):
    names = [name for name in os.listdir(out) if name.endswith(".index.json")]
    assert len(names) <= 1
    if not names:
        return None
    with open(out / names[0], encoding="utf-8") as f:
        return json.load(f)


def test_index_and_files_agree(welded):
    """vLLM: every file that the index names is there, and no weights beside them. llama.cpp: the names in the index
    are those in the files, each in its file and in no other."""
    _, _, out = welded
    index, files = index_of(out), weight_files(out)
    if index is None:
        assert len(files) == 1 and "-of-" not in files[0]
        return
    assert sorted(set(index["weight_map"].values())) == files
    found = []
    for name in files:
        with safe_open(out / name, "pt") as f:
            found += [(fqn, name) for fqn in f.keys()]
    assert sorted(found) == sorted(index["weight_map"].items())


def test_names_are_as_the_loaders_ask_for_them(welded):
    _, weld, out = welded
    stem = "diffusion_pytorch_model" if "--diffusers" in weld.args else "model"
    names = [name for name in os.listdir(out) if name.endswith((".safetensors", ".index.json"))]
    assert all(name.startswith((f"{stem}-", f"{stem}.safetensors")) for name in names)
    assert (f"{stem}.safetensors.index.json" in names) != (f"{stem}.safetensors" in names)


def test_gguf_reads_it(welded):
    """The reader of llama.cpp's converter, which maps the bytes by itself."""
    root, weld, out = welded
    got = {}
    for name in weight_files(out):
        with SafetensorsLocal(out / name) as tensors:
            got.update(tensors)
    want = expected(root, weld)
    assert sorted(got) == sorted(want)
    for fqn, tensor in want.items():
        assert got[fqn].shape == tuple(tensor.shape)
        assert got[fqn].data_range.size == len(bytes_of(tensor))
        assert not tensor.numel() or got[fqn].mmap_bytes().tobytes() == bytes_of(tensor), fqn


# ---- would it be noticed? -------------------------------------------------------------------------------


def swap_rows(state):
    state["lm_head.weight"][[0, 1]] = state["lm_head.weight"][[1, 0]]


@pytest.mark.parametrize("change", [
    lambda state: state.pop("model.norm.weight"),
    lambda state: state.update({"model.left.over": torch.zeros(2)}),
    swap_rows,
], ids=["missing", "unexpected", "rows"])  # fmt: skip
def test_what_is_wrong_is_noticed(root, tmp_path, change):
    weld = Weld("own-fsdp", ("--single-file",))
    weld_it(root, weld, tmp_path / "out", None)
    state = tensors_of(tmp_path / "out")
    change(state)
    save_file(state, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    kind, more = kind_of(weld)
    with pytest.raises(AssertionError):
        assert torch.equal(compute(load(kind, tmp_path / "out", **more)), compute(reference(weld)))
    result = run(["verify", "-q", *weld.args, root / weld.save / "in", tmp_path / "out"])
    assert result.status == 1, show(result)
