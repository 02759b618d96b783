"""torch DCP's own format: what is welded, and what is refused with which words. What torch itself wrote is in tests/golden."""

import json
import os
import pickle
import shutil
import struct

import distcp
import numpy as np
import oracle
import pytest
from distcp import Box, Call, Name, item, tensor_pickle
from runner import HERE, ROOT, errors, fails, ok, run, show, warnings

BAD = os.path.join(os.path.dirname(HERE), "bad", "distcp")
RNG = np.random.default_rng(5)


def tensors_of(shape=(5, 6), dtype="F32"):
    return {"w": oracle.random_tensor(RNG, dtype, shape), "b.bias": oracle.random_tensor(RNG, "BF16", (7,))}


def boxes_of(tensor, parts, axis=0):
    """(file, box, bytes): cut along axis, one file a part."""
    out, begin = [], 0
    if not tensor.shape:
        return [("__0_0.distcp", (), (), tensor.data)]
    for i in range(parts):
        n = tensor.shape[axis] * (i + 1) // parts - begin
        offsets, shape = [0] * len(tensor.shape), list(tensor.shape)
        offsets[axis], shape[axis] = begin, n
        data = oracle.cut(tensor, oracle.Box(tuple(offsets), tuple(shape)))
        out.append((f"__{i}_0.distcp", tuple(offsets), tuple(shape), data))
        begin += n
    return out


def save(where, tensors, parts=2, axis=0, make=item, **more):
    distcp.write(where, {fqn: (t.dtype, t.shape, [Box(f, o, s, make(t.dtype, s, d)) for f, o, s, d in boxes_of(t, parts, axis if len(t.shape) > axis else 0)])
                         for fqn, t in tensors.items()}, **more)  # fmt: skip


def welded(tensors):
    return oracle.consolidated(tensors, dict.fromkeys(tensors, oracle.SINGLE), index=None)


def welds(tmp_path, tensors):
    """in becomes out, alone, and out is these."""
    ok(run(["consolidate", tmp_path / "in", tmp_path / "out"]))
    oracle.same(tmp_path / "out", welded(tensors))


@pytest.mark.parametrize("np_, protocol", [(None, 2), (3, 4), (5, 5)])
def test_weld_verify_reshard(np_, protocol, tmp_path):
    tensors = tensors_of()
    save(tmp_path / "in", tensors, parts=3, axis=1, protocol=protocol)
    ok(run(["consolidate", tmp_path / "in", tmp_path / "out"], np=np_))
    assert oracle.difference(oracle.tree(tmp_path / "out"), welded(tensors)) == ""
    ok(run(["verify", tmp_path / "in", tmp_path / "out"], np=np_))
    if protocol == 4:
        ok(run(["reshard", "--mesh", "4", "--placements", "shard0", tmp_path / "in", tmp_path / "shards"], np=np_))
        ok(run(["consolidate", "--single-file", tmp_path / "shards", tmp_path / "again"], np=np_))
        assert oracle.difference(oracle.tree(tmp_path / "again"), welded(tensors)) == ""


def test_as_torch_2_15_tells_of_tensors(tmp_path, monkeypatch):
    """With a sixth word in the state of their properties: the strides."""
    five, tensors = distcp.properties, tensors_of()
    monkeypatch.setattr(distcp, "properties", lambda dtype: distcp.TensorProperties(state=(*five(dtype).state, (6, 1))))
    save(tmp_path / "in", tensors)
    welds(tmp_path, tensors)


def test_large_archives_and_views(tmp_path):
    """Sizes in fields of 64 bits; a view that begins inside of its storage."""
    tensors = tensors_of()

    def view(dtype, shape, data):
        width = distcp.STORAGES[dtype][1]
        n = len(data) // width
        return item(dtype, shape, bytes(3 * width) + data + bytes(width), large=True,
                    pkl=tensor_pickle(dtype, shape, first=3, numel=n + 4))  # fmt: skip

    save(tmp_path / "in", tensors, make=view)
    welds(tmp_path, tensors)


def transposed(dtype, shape, data):
    """Dimensions in the other order in memory."""
    width = distcp.STORAGES[dtype][1]
    whole = np.frombuffer(data, dtype=f"V{width}").reshape(shape)
    n = 1
    strides = []
    for s in shape:
        strides.append(n)
        n *= s
    return item(dtype, shape, np.ascontiguousarray(whole.T).tobytes(), pkl=tensor_pickle(dtype, shape, strides))


def padded(dtype, shape, data):
    """Rows with room behind them: the part of a larger tensor."""
    width = distcp.STORAGES[dtype][1]
    wide = np.zeros((*shape[:-1], shape[-1] + 3), dtype=f"V{width}")
    wide[..., : shape[-1]] = np.frombuffer(data, dtype=f"V{width}").reshape(shape)
    return item(dtype, shape, wide.tobytes(), pkl=tensor_pickle(dtype, shape, distcp.strides_of(wide.shape), numel=wide.size))


def padded_if_2d(dtype, shape, data):
    return (padded if len(shape) == 2 else item)(dtype, shape, data)


def repeated(dtype, shape, data):
    """Stride 0: one number stands for a whole dimension."""
    width = distcp.STORAGES[dtype][1]
    return item(dtype, shape, data[:width], pkl=tensor_pickle(dtype, shape, [0] * len(shape), numel=1))


@pytest.mark.parametrize("np_, make, axis", [(None, transposed, 0), (None, padded, 1), (2, transposed, 1), (5, padded, 0)])
def test_strides(np_, make, axis, tmp_path):
    tensors = {"w": oracle.random_tensor(RNG, "F32", (5, 6)), "d3": oracle.random_tensor(RNG, "BF16", (3, 4, 5)),
               "large": oracle.random_tensor(RNG, "BF16", (160, 90))}  # fmt: skip
    save(tmp_path / "in", tensors, axis=axis, make=make)
    for assign in ("band", "owner"):
        ok(run(["consolidate", "--assign", assign, "--buffer-size", "16KiB", tmp_path / "in", tmp_path / assign], np=np_))
        assert oracle.difference(oracle.tree(tmp_path / assign), welded(tensors)) == ""
    ok(run(["verify", tmp_path / "in", tmp_path / "band"], np=np_))


def test_strides_that_repeat(tmp_path):
    t = oracle.Tensor("F32", (5, 6), RNG.bytes(4) * 30)
    save(tmp_path / "in", {"w": t}, make=repeated)
    welds(tmp_path, {"w": t})


def test_inspect_shows_what_was_saved(tmp_path):
    tensors = {"model.w": oracle.random_tensor(RNG, "F32", (5, 6)), "optimizer.step": oracle.random_tensor(RNG, "I64", ())}
    save(tmp_path / "in", tensors, parts=3, values=["lr"], paths={n: tuple(n.split(".")) for n in tensors}, make=padded_if_2d)
    shown = run(["inspect", "--json", tmp_path / "in"])
    assert shown.status == 0, show(shown)
    seen = json.loads(shown.stdout)
    assert [(t["name"], t["dtype"], t["shape"], len(t["boxes"])) for t in seen["tensors"]] == [
        ("model.w", "F32", [5, 6], 3), ("optimizer.step", "I64", [], 1)]  # fmt: skip
    assert {f["name"] for f in seen["files"]} == {f"__{i}_0.distcp" for i in range(3)} and seen["findings"] == []
    text = run(["inspect", tmp_path / "in"]).stdout
    assert "rows over 3" in text
    svg = run(["inspect", "--svg", "-", tmp_path / "in"])
    assert svg.status == 0 and "</svg>" in svg.stdout


# ---- which tensors ----------------------------------------------------------------------------


def state(tmp_path, names, values=()):
    tensors = {fqn: oracle.random_tensor(RNG, "F32", (2, 3)) for fqn in names}
    save(tmp_path / "in", tensors, values=values, paths={fqn: tuple(p) for fqn, p in names.items()})
    return tensors


def weld_names(tmp_path, *options):
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    result = run(["consolidate", *options, tmp_path / "in", out])
    assert result.status == 0, show(result)
    text = (out / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", text[:8])[0]
    return sorted(k for k in json.loads(text[8 : 8 + n]) if k != "__metadata__"), warnings(result)


def test_the_model_of_a_training_state(tmp_path):
    names = {"model.a": ("model", "a"), "model.model.b": ("model", "model.b"), "optimizer.state.a.step": ("optimizer", "state", "a", "step")}
    state(tmp_path, names, values=["lr", "epoch"])
    got, said = weld_names(tmp_path)
    assert got == ["a", "model.b"]
    assert len(said) == 2 and "2 values" in said[0] and "'model.'" in said[1] and "--include" in said[1]
    assert weld_names(tmp_path, "--include", "*")[0] == sorted(names)
    assert weld_names(tmp_path, "--include", "model.*", "--strip-prefix", "model.")[0] == ["a", "model.b"]
    assert weld_names(tmp_path, "--include", "optim*")[0] == ["optimizer.state.a.step"]


def test_the_optimizer_beside_names_at_the_top(tmp_path):
    names = {"model.a": ("model.a",), "lm_head": ("lm_head",), "optimizer.state.x": ("optimizer", "state", "x")}
    state(tmp_path, names)
    got, said = weld_names(tmp_path)
    assert got == ["lm_head", "model.a"] and len(said) == 1 and "optimizer" in said[0]


@pytest.mark.parametrize("names, want", [
    (["decoder.a", "embedding.b", "optimizer.state.a", "chained_1.optimizer.state.a"], ["decoder.a", "embedding.b"]),
    (["model.a", "model.b.c", "optim.state.a"], ["a", "b.c"]),
    (["model.a", "lm_head", "optimizer.state.a"], ["lm_head", "model.a"]),
    (["model.a", "model.b"], ["model.a", "model.b"]),
])  # fmt: skip
def test_names_without_paths(tmp_path, names, want):
    """As Megatron-Core saves: the names alone tell what is the model's."""
    tensors = {fqn: oracle.random_tensor(RNG, "F32", (2, 3)) for fqn in names}
    save(tmp_path / "in", tensors, paths={})
    assert weld_names(tmp_path)[0] == want


def test_an_object_of_the_application(tmp_path):
    state(tmp_path, {"app.model.a": ("app", "model", "a"), "app.optim.a": ("app", "optim", "a")})
    assert weld_names(tmp_path)[0] == ["a"]


def test_a_plain_state_dict_is_taken_as_it_is(tmp_path):
    state(tmp_path, {"model.a": ("model.a",), "b": ("b",)})
    assert weld_names(tmp_path) == (["b", "model.a"], [])


# ---- what is wrong ----------------------------------------------------------------------------


def refused(tmp_path, *words):
    result = run(["consolidate", tmp_path / "in", tmp_path / "out"])
    message = fails(result, 3, *words)
    assert not (tmp_path / "out").exists() or oracle.tree(tmp_path / "out") == {}
    shown = run(["inspect", tmp_path / "in"])
    assert shown.status == 3, show(shown)
    return message


def bad_cases():
    with open(os.path.join(BAD, "cases.txt")) as f:
        lines = [line.rstrip("\n").split("\t") for line in f if line[0] != "#"]
    return {name: (int(status), words) for name, status, *words in lines}


BAD_CASES = bad_cases()


@pytest.mark.parametrize("name", BAD_CASES)
def test_bad_files(name, tmp_path):
    """tests/bad/distcp/NAME: the status and the words of its line in cases.txt, and nothing was run."""
    status, words = BAD_CASES[name]
    shutil.copytree(os.path.join(BAD, name), tmp_path / "in")
    fails(run(["consolidate", "in", "out"], cwd=tmp_path), status, *words)
    shown = run(["inspect", "in"], cwd=tmp_path)
    assert shown.status == status, show(shown)
    assert os.listdir(tmp_path) == ["in"]
    assert oracle.tree(tmp_path / "in") == oracle.tree(os.path.join(BAD, name))


# In __1_0.distcp of an item in torch's SAFETENSORS serialization: what is replaced by as many bytes, and what is said of it.
ENTRIES = {
    "another dtype": (b'"model.experts":{"dtype":"F32"', b'"model.experts":{"dtype":"I32"', "its entry is I32, expected F32"),
    "another shape": (b'"shape":[3,1,6]', b'"shape":[1,3,6]', "another shape than its box"),
    "another name": (b'"model.experts":{', b'"model.expertx":{', ""),
    "another box": (b'experts\\": {\\"saved_offsets\\": [0, 1, 0]', b'experts\\": {\\"saved_offsets\\": [0, 0, 0]', "a box of it is not in this file"),
    "no JSON": (b'{"__metadata__"', b'["__metadata__"', ""),
    "cut off": (b"", b"", "__1_0.distcp"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_that_are_wrong(name, tmp_path):
    old, new, words = ENTRIES[name]
    shutil.copytree(os.path.join(ROOT, "tests", "golden", "distcp_entries", "in"), tmp_path / "in")
    path = tmp_path / "in" / "__1_0.distcp"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1) if old else data[:-200])
    refused(tmp_path, "__1_0.distcp", words)


def test_a_directory_that_is_longer_than_what_is_read_at_once(tmp_path):
    """A wrong checksum in an item of many members, whose data.pkl is not at its beginning either."""

    def many(dtype, shape, data, **wrong):
        pkl = tensor_pickle(dtype, shape)
        padding = [(f"extra/{i}", bytes(40)) for i in range(400)]
        members = [*padding, ("data.pkl", pkl), ("byteorder", b"little"), ("data/0", data)]
        return distcp.archive(members, name="archive" if wrong else "a" * 300, **wrong)

    tensors = tensors_of()
    save(tmp_path / "in", tensors, make=many)
    welds(tmp_path, tensors)
    save(tmp_path / "bad" / "in", tensors, make=lambda *words: many(*words, crc=1))
    refused(tmp_path / "bad", "checksum of member 'archive/data.pkl'")


def test_other_words_in_metadata_do_not_matter(tmp_path):
    """What no tensor depends on is not understood, and not run."""
    tensors = tensors_of()
    save(tmp_path / "in", tensors, storage_meta=Call(Name("os", "system"), f"touch {tmp_path}/pwned"), later={"a": [1, {2}]})
    welds(tmp_path, tensors)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_file(tmp_path):
    save(tmp_path / "in", tensors_of(), parts=3)
    (tmp_path / "in" / "__2_0.distcp").unlink()
    refused(tmp_path, "__2_0.distcp", ".metadata names it, but it is missing")
    (tmp_path / "in" / "__2_0.distcp").symlink_to("nowhere")
    refused(tmp_path, "__2_0.distcp", "nowhere")
    (tmp_path / "in" / "__2_0.distcp").unlink()
    (tmp_path / "in" / "__2_0.distcp").mkdir()
    refused(tmp_path, "__2_0.distcp", "a directory")


def test_a_file_alone(tmp_path):
    save(tmp_path / "in", tensors_of())
    shown = run(["inspect", tmp_path / "in" / "__0_0.distcp"])
    assert shown.status == 3 and "name the directory with its .metadata" in shown.stdout, show(shown)


def test_links_to_files_are_followed(tmp_path):
    tensors = tensors_of()
    save(tmp_path / "in", tensors)
    (tmp_path / "in" / "__1_0.distcp").rename(tmp_path / "elsewhere")
    (tmp_path / "in" / "__1_0.distcp").symlink_to("../elsewhere")
    welds(tmp_path, tensors)


def test_the_metadata_of_another_save(tmp_path):
    save(tmp_path / "in", tensors_of())
    save(tmp_path / "other", tensors_of((9, 6)))
    (tmp_path / "in" / ".metadata").write_bytes((tmp_path / "other" / ".metadata").read_bytes())
    refused(tmp_path, "__0_0.distcp")


def test_the_same_message_from_any_number_of_ranks(tmp_path):
    save(tmp_path / "in", tensors_of(), parts=5)
    for name in ("__1_0.distcp", "__3_0.distcp"):
        path = tmp_path / "in" / name
        path.write_bytes(path.read_bytes()[:-5])
    said = {errors(run(["consolidate", tmp_path / "in", tmp_path / "out"], np=n))[0].split(" (rank")[0] for n in (None, 5)}
    assert len(said) == 1 and "__1_0.distcp" in said.pop()


def test_every_bit_of_a_metadata(tmp_path):
    """Whatever a flipped byte makes of it: a status, no crash."""
    save(tmp_path / "in", {"w": oracle.random_tensor(RNG, "F32", (4, 2))})
    path = tmp_path / "in" / ".metadata"
    good = path.read_bytes()
    assert pickle.PROTO == good[:1]
    for at in range(0, len(good), 7):
        data = bytearray(good)
        data[at] ^= 1 << (at % 8)
        path.write_bytes(data)
        assert run(["inspect", tmp_path / "in"]).status in (0, 3)


# ---- what is left out is not looked at ---------------------------------------------------------


def training(tmp_path):
    """A model in two files; an optimizer in one of them and in a third."""
    tensors = {"model.w": oracle.random_tensor(RNG, "F32", (4, 6)), "optimizer.m": oracle.random_tensor(RNG, "F32", (4, 6))}
    boxes = {"model.w": boxes_of(tensors["model.w"], 2), "optimizer.m": boxes_of(tensors["optimizer.m"], 2)}
    files = {"model.w": ["__0_0.distcp", "__1_0.distcp"], "optimizer.m": ["__1_0.distcp", "__2_0.distcp"]}
    make = {"model.w": item, "optimizer.m": lambda *words: item(*words)[:-4] + b"lost"}
    distcp.write(tmp_path / "in", {n: (t.dtype, t.shape, [Box(f, o, s, make[n](t.dtype, s, d)) for f, (_, o, s, d) in zip(files[n], boxes[n])])
                                   for n, t in tensors.items()}, values=["lr"], paths={n: tuple(n.split(".")) for n in tensors})  # fmt: skip
    return tensors


@pytest.mark.parametrize("np_", [None, 3])
def test_the_optimizer_is_not_looked_at(np_, tmp_path):
    tensors = training(tmp_path)
    (tmp_path / "in" / "__2_0.distcp").unlink()
    ok(run(["consolidate", "-q", tmp_path / "in", tmp_path / "out"], np=np_))
    assert oracle.difference(oracle.tree(tmp_path / "out"), welded({"w": tensors["model.w"]})) == ""
    ok(run(["verify", "-q", tmp_path / "in", tmp_path / "out"], np=np_))
    ok(run(["reshard", "-q", "--ranks", "2", tmp_path / "in", tmp_path / "cut"], np=np_))
    fails(run(["consolidate", "-q", "--include", "*", tmp_path / "in", tmp_path / "all"], np=np_), 3, "__2_0.distcp", "missing")


def test_who_asks_for_the_optimizer_has_its_items_read(tmp_path):
    training(tmp_path)
    fails(run(["consolidate", "-q", "--include", "*", tmp_path / "in", tmp_path / "all"]), 3, "'optimizer.m'", "archive")
    shown = run(["inspect", tmp_path / "in"])
    assert shown.status == 3 and "optimizer.m" in shown.stdout and "not a tensor\nlr\n" in shown.stdout, show(shown)
