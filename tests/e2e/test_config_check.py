"""config.json is asked what no shard can tell: where a tensor, and the model, should end."""

import os

import oracle
import pytest
from runner import HERE, errors, fails, ok, run, show

SIZES = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 4}
CAUSE = ("config.json", "a shard file is probably missing", "--no-config-check")


def model(rng, prefix="model."):
    shapes = {f"{prefix}embed_tokens.weight": (96, 32), f"{prefix}norm.weight": (32,), "lm_head.weight": (96, 32)}
    for i in range(4):
        shapes[f"{prefix}layers.{i}.input_layernorm.weight"] = (32,)
        shapes[f"{prefix}layers.{i}.mlp.up_proj.weight"] = (48, 32)
    return {name: oracle.random_tensor(rng, "BF16", shape) for name, shape in shapes.items()}


def columns(tensors, ranks):
    return {n: oracle.boxes_of(t.shape, (ranks,), (len(t.shape) - 1,)) for n, t in tensors.items()}


def by_layer(tensors):
    """A pipeline: each layer whole on a rank of its own; the rest on the first."""
    number = {n: int(n.split("layers.")[1][0]) if "layers." in n else 0 for n in tensors}
    return {n: [None] * number[n] + [oracle.whole(t.shape)] for n, t in tensors.items()}


def config(directory, sizes=None, name="config.json", **more):
    oracle.write_json(str(directory / name), {**(SIZES if sizes is None else sizes), **more})


def lose(directory, *shards):
    for i in shards:
        (directory / oracle.shard_name(i)).unlink()


LOST = {
    "rows": (None, [4], ("tensor 'model.embed_tokens.weight'", "vocab_size is 96", "only 72 rows")),
    "columns": (columns, [3, 4], ("tensor 'model.embed_tokens.weight'", "hidden_size is 32", "only 16 columns")),
    "layers": (lambda tensors, ranks: by_layer(tensors), [4], ("num_hidden_layers is 4", "'model.layers.3'", "the last layer is 2")),
    "a layer": (lambda tensors, ranks: by_layer(tensors), [3], ("num_hidden_layers is 4", "'model.layers.2'", "the last layer is 3")),
}


@pytest.mark.parametrize("what", LOST)
def test_lost_at_the_end(dirs, make, weld, rng, tmp_path, what):
    """By every command; before names are chosen or changed. What is whole is welded, and so is the rest where it is asked for."""
    src, out = dirs
    boxes, shards, words = LOST[what]
    tensors = model(rng)
    ckpt = make(src, tensors=tensors, ranks=4, boxes=boxes and boxes(tensors, 4))
    config(src)
    ok(weld(src, out))
    assert oracle.difference(oracle.tree(out), {**ckpt.expect(), "config.json": (src / "config.json").read_bytes()}) == ""
    lose(src, *shards)
    new = tmp_path / "new"
    for options in ((), ("--include", "model.norm.weight"), ("--strip-prefix", "model.", "--no-assets"), ("-n",)):
        fails(weld(src, new, *options), 3, *CAUSE, *words)
    fails(run(["reshard", "--ranks", "2", src, new]), 3, *CAUSE, *words)
    fails(run(["verify", src, out]), 3, *CAUSE, *words)
    shown = run(["inspect", src], np=2)
    assert shown.status == 3 and len(errors(shown)) == 1, show(shown)
    for word in (*CAUSE, *words):
        assert word in shown.stdout, show(shown)
    assert not new.exists()
    ok(weld(src, new, "-q", "--no-config-check"))
    ok(run(["reshard", "-q", "--no-config-check", "--ranks", "2", src, tmp_path / "cut"]))
    ok(run(["verify", "-q", "--no-config-check", src, new]))
    shown = run(["inspect", "-q", "--no-config-check", src])
    assert shown.status == 0 and shown.stderr == "", show(shown)


def test_a_node_that_was_forgotten(make, rng, tmp_path):
    """Nobody says how many shards there should be."""
    make(tmp_path / "all", tensors=model(rng), ranks=4)
    for i in range(4):
        node = tmp_path / "node" / str(i // 2)
        node.mkdir(parents=True, exist_ok=True)
        os.rename(tmp_path / "all" / oracle.shard_name(i + 1), node / oracle.shard_name(i + 1))
    config(tmp_path / "node" / "0")
    args = ["consolidate", "--node-local", "--no-assets"]
    prefix = ["sh", os.path.join(HERE, "by_rank.sh")]
    ok(run([*args, "--expect-shards", "4", tmp_path / "node" / "@RANK@", tmp_path / "whole"], np=2, prefix=prefix))
    one = [*args, "--expect-shards", "2", tmp_path / "node" / "0"]
    fails(run([*one, tmp_path / "out"], np=2), 3, *CAUSE, "only 48 rows")
    assert not (tmp_path / "out").exists()


def test_which_config(dirs, make, weld, rng, tmp_path):
    """Where the side files come from, by name."""
    src, out = dirs
    make(src, tensors=model(rng, "model.language_model."), ranks=4)
    lose(src, 4)
    config(src, {}, text_config=SIZES)
    fails(weld(src, out), 3, "error: config.json: tensor 'model.language_model.embed_tokens.weight': text_config.vocab_size is 96")
    config(src / ".hf_metadata", {"vocab_size": 72})
    ok(weld(src, out))
    config(src / ".hf_metadata")
    fails(weld(src, out, "--overwrite"), 3, "error: .hf_metadata/config.json: tensor 'model.language_model.embed_tokens.weight': vocab_size")
    (tmp_path / "as").mkdir()
    ok(weld(src, out, "--overwrite", "--assets", tmp_path / "as"))
    config(tmp_path / "as")
    fails(weld(src, out, "--overwrite", "--assets", tmp_path / "as"), 3, f"error: {tmp_path}/as/config.json: tensor")


def test_a_plain_checkpoint(dirs, weld, rng):
    src, out = dirs
    tensors = model(rng)
    parts = [{n: t for n, t in tensors.items() if ("layers.3" in n) == last} for last in (False, True)]
    for i, part in enumerate(parts):
        oracle.write(str(src / oracle.model_name(i + 1, 2)), oracle.serialize(part))
    config(src)
    ok(weld(src, out))
    (src / oracle.model_name(2, 2)).unlink()
    fails(weld(src, out, "--overwrite"), 3, *CAUSE, "'model.layers.3'")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"vocab_size": 97,}', b'{"vocab_size": "97"}', b"\xff", b'{"vocab_size": 95}'])
def test_a_config_that_says_nothing(dirs, make, weld, rng, text):
    src, out = dirs
    make(src, tensors=model(rng))
    oracle.write(str(src / "config.json"), text)
    ok(weld(src, out))
