"""metadata.pkl of torch_checkpointing: what is refused with which words. What it wrote itself is in tests/golden (tc_*)."""

import json
import os
import pickle
import shutil
import sys
import zipfile

import distcp
import oracle
import pytest
from runner import HERE, ROOT, fails, ok, run, show, warnings
from test_large import peaks

GOLDEN = os.path.join(ROOT, "tests", "golden")


@pytest.fixture
def saved(tmp_path):
    shutil.copytree(os.path.join(GOLDEN, "tc_train", "in"), tmp_path / "in")
    return tmp_path / "in"


def change(where, edit):
    """The metadata with something of it changed: it holds nothing but dicts, lists, texts and numbers."""
    data = pickle.loads((where / "metadata.pkl").read_bytes())  # our own file
    edit(data)
    (where / "metadata.pkl").write_bytes(pickle.dumps(data))


def said(data, name, item="model"):
    return data["metadata"][item]["nested_path_to_metadata"][json.dumps([name], separators=(",", ":"))][0]


def up(data):
    return said(data, "layers.0.up")["sharding_metadata"]["data"]


def placement(**members):
    return lambda d: up(d)["placements"][0].update(members)


def grid_of_strides(data):
    """A few hundred bytes that speak of a million boxes a rank: strides along one dimension, and along another."""
    strides = [{"type": "StridedShard", "dim": d, "split_factor": 1000} for d in (0, 1)]
    up(data).update(global_shape=[4000, 4000], placements=strides)
    up(data)["mesh_spec"] = {**up(data)["mesh_spec"], "mesh_shape": (2, 2)}


WRONG = {
    "version": (lambda d: d.update(version="3.0"), "its version is not 2.0"),
    "no version": (lambda d: d.pop("version"), "its version is not 2.0"),
    "not a dict": (lambda d: d.update(metadata=[]), "tells of no tensors"),
    "no metadata": (lambda d: d.pop("metadata"), "no 'metadata'"),
    "ranks": (lambda d: d.update(world_size=2**40), "no number of ranks"),
    "fewer ranks": (lambda d: d.update(world_size=3), "another number of files than of ranks"),
    "kind": (lambda d: said(d, "norm")["sharding_metadata"].update(type="other"), "not known"),
    "placement": (placement(type="Partial"), "neither Shard"),
    "dimension": (placement(dim=2), "a dimension that it does not have"),
    "negative": (placement(dim=-1), "a dimension that it does not have"),
    "factor": (placement(type="StridedShard", split_factor=2**40), "too many boxes"),
    "factors": (grid_of_strides, "too many boxes"),
    "no factor": (placement(type="StridedShard", split_factor=0), "without a factor"),
    "mesh": (lambda d: up(d)["mesh_spec"].update(mesh_shape=(2**40, 2**40)), "a mesh that is too large"),
    "other mesh": (lambda d: up(d)["mesh_spec"].update(mesh_shape=(3,)), "another number of ranks"),
    "twice in the mesh": (lambda d: up(d)["mesh_spec"].update(mesh_data=(0, 1, 1, 3)), "or twice"),
    "a rank too many": (lambda d: said(d, "layers.0.up").update(ranks=(0, 9)), "not in its mesh"),
    "dtype": (lambda d: up(d).update(dtype="torch.qint8"), "its dtype is none"),
    "other dtype": (lambda d: up(d).update(dtype="torch.int32"), "its entry is F32, expected I32"),
    "dims": (lambda d: up(d).update(global_shape=[1] * 40), "too many dimensions"),
    "other shape": (lambda d: up(d).update(global_shape=[5, 8]), "another shape than its box"),
    "by torch.save": (lambda d: d["metadata"]["model"]["rank_to_layout_info"].update({0: None}), "model_0.pt: metadata.pkl names it"),
    "as JSON": (lambda d: d["metadata"]["model"]["rank_to_layout_info"][1].update(serialization_format={"type": "JsonSerialization"}), "neither as safe"),
    "outside": (lambda d: d["metadata"]["model"]["rank_to_layout_info"][1].update(file_path="../x"), "not a relative path below"),
    "a path that is none": (lambda d: d["metadata"]["model"]["nested_path_to_metadata"].update({'["a"': []}), "the path of a tensor is none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(saved, name, tmp_path):
    edit, words = WRONG[name]
    change(saved, edit)
    fails(run(["consolidate", "-q", saved, tmp_path / "out"]), 3, words)
    assert not (tmp_path / "out").exists()


def test_drills(saved, tmp_path):
    shown = run(["inspect", saved])
    assert shown.status == 0 and "optimizer.exp_avg" in shown.stdout, show(shown)
    for i in range(4):  # the optimizer is not needed
        (saved / f"optimizer_{i}.pt").unlink()
    ok(run(["consolidate", "-q", saved, tmp_path / "out"], np=3))
    assert oracle.tree(tmp_path / "out") == oracle.tree(os.path.join(GOLDEN, "tc_train", "out"))
    path = saved / "model_1.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    fails(run(["consolidate", "-q", saved, tmp_path / "cut"], np=2), 3, "model_1.safetensors")
    path.write_bytes((saved / "model_2.safetensors").read_bytes())
    fails(run(["consolidate", "-q", saved, tmp_path / "other"]), 3, "model_1.safetensors", "another shape")
    path.unlink()
    fails(run(["consolidate", "-q", saved, tmp_path / "gone"]), 3, "metadata.pkl names it, but it is missing")


def test_nothing_is_called(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/called",)

    change(saved, lambda d: d.update(version=Evil()))
    fails(run(["consolidate", saved, tmp_path / "out"]), 3, "its version is not 2.0")
    assert not (tmp_path / "called").exists()


# ---- files of torch.save -----------------------------------------------------------------------------


@pytest.fixture
def torch_saved(tmp_path):
    shutil.copytree(os.path.join(GOLDEN, "tc_torch", "in"), tmp_path / "in")
    return tmp_path / "in"


def members_of(path):
    with zipfile.ZipFile(path) as z:
        return {name.partition("/")[2]: z.read(name) for name in z.namelist()}


def with_pickle(path, pkl):
    path.write_bytes(distcp.archive(list({**members_of(path), "data.pkl": pkl}.items())))


def doubled(times):
    d = {}
    for _ in range(times):
        d = {"a": d, "b": d}
    return pickle.dumps(d, 2)


def nested(times):
    d = {}
    for _ in range(times):
        d = {"a": d}
    return pickle.dumps(d, 2)


SYSTEM = distcp.Call(distcp.Name("os", "system"), "touch pwned")
PICKLES = {
    "another": (distcp.dumps({"norm": 3}), "a box of it is not in this file"),
    "a number": (b"\x80\x02K\x03.", "a box of it is not in this file"),
    "os.system": (distcp.dumps(SYSTEM), "a box of it is not in this file"),
    "os.system as a tensor": (distcp.dumps(dict.fromkeys(("norm", "columns", "parameter", "layers.0.up"), SYSTEM)), ""),
    "of itself": (b"\x80\x02}q\x00U\x01ah\x00s.", "its data.pkl names its parts too often"),
    "deep": (nested(40), "goes too deep"),
    "doubled": (doubled(25), "names its parts too often"),
    "cut off": (distcp.dumps({"norm": 3})[:-1], "cut off"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_of_files(torch_saved, name, tmp_path):
    pkl, words = PICKLES[name]
    with_pickle(torch_saved / "model_2.pt", pkl)
    fails(run(["consolidate", "-q", torch_saved, tmp_path / "out"], cwd=tmp_path), 3, "model_2.pt", words)
    assert not (tmp_path / "out").exists() and not (tmp_path / "pwned").exists()


def test_files_of_torch_save(torch_saved, tmp_path):
    """Cut off at any place, of another rank, with a storage too few or too short, of a big-endian machine; a changed byte of what describes it."""
    path, out = torch_saved / "model_1.pt", tmp_path / "out"
    whole, members = path.read_bytes(), members_of(path)
    for n in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        fails(run(["consolidate", "-q", torch_saved, out]), 3, "model_1.pt")
    path.write_bytes((torch_saved / "model_3.pt").read_bytes())
    fails(run(["consolidate", "-q", torch_saved, out], np=2), 3, "model_1.pt", "another shape")
    for change, words in (
        ({"byteorder": b"big"}, "big-endian"),
        ({"data/0": members["data/0"][:-4]}, "its storage has another length"),
        ({"data/0": None}, "its storage is missing"),
        ({"data.pkl": None}, "no data.pkl"),
    ):
        kept = {name: data for name, data in {**members, **change}.items() if data is not None}
        path.write_bytes(distcp.archive(list(kept.items())))
        fails(run(["consolidate", "-q", torch_saved, out]), 3, "model_1.pt", words)
    path.write_bytes(distcp.archive(list(members.items())))
    ok(run(["consolidate", "-q", torch_saved, out]))
    assert oracle.tree(out) == oracle.tree(os.path.join(GOLDEN, "tc_torch", "out"))
    shutil.rmtree(out)
    at = whole.index(members["data.pkl"]) + len(members["data.pkl"]) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    fails(run(["consolidate", "-q", torch_saved, out]), 3, "model_1.pt", "the checksum of member")
    assert not out.exists()


def test_what_is_no_tensor(torch_saved, tmp_path):
    """Numbers beside the tensors of files: counted and listed, those of files that are looked at; each once, whichever ranks saved it."""
    for np in (None, 3):
        said = warnings(run(["consolidate", torch_saved, tmp_path / f"out{np}"], np=np))
        assert "left out: 1 value that is not a tensor" in said[0], said
        shown = json.loads(run(["inspect", "--json", torch_saved], np=np).stdout)
        assert shown["values"] == ["model.nested.1", "optimizer.state.0.step", "optimizer.state.1.step"]


def test_kinds_of_values(tmp_path):
    """A list is one value unless a tensor or a dict is in it; an object that is no tensor is one, and is not run."""
    tensor = distcp.Call(distcp.Name("torch._utils", "_rebuild_tensor_v2"),
                         distcp.Stored("storage", distcp.Name("torch", "FloatStorage"), "0", "cpu", 2), 0, (2,), (1,), False, ())  # fmt: skip
    state = {"w": tensor, "none": None, "text": "x", "numbers": [1, [2, 3]], "empty": [], "nothing": {}, "object": SYSTEM,
             "mixed": [4, {"a": 5}], "beside": [6, {}, tensor], "tuple": (7, 8)}  # fmt: skip
    said = {"global_shape": (2,), "dtype": "float32", "global_offsets": [(0,)], "local_sizes": [(2,)], "local_offsets": [(0,)]}
    group = {"sharding_metadata": {"type": "default_tensor_v1", "data": said}, "ranks": (0,)}
    item = {"rank_to_layout_info": {0: None}, "nested_path_to_metadata": {'["w"]': [group]}}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "metadata.pkl").write_bytes(pickle.dumps({"metadata": {"model": item}, "world_size": 1, "version": "2.0"}))
    members = [("data.pkl", distcp.dumps(state)), ("byteorder", b"little"), ("data/0", bytes(8)), ("version", b"3\n")]
    (tmp_path / "in" / "model_0.pt").write_bytes(distcp.archive(members))
    shown = run(["inspect", "--json", "in"], cwd=tmp_path)
    names = ["beside.0", "empty", "mixed.0", "mixed.1.a", "none", "numbers", "object", "text", "tuple"]
    assert shown.status == 0 and json.loads(shown.stdout)["values"] == [f"model.{name}" for name in names], show(shown)
    assert not (tmp_path / "pwned").exists()


# ---- how much a metadata.pkl may speak of ------------------------------------------------------------

# What is named so often that, taken at its word, it were millions of boxes.
SHARED = {
    "groups": {"n": 1000, "groups": 1000, "ranks": 500},
    "ranks": {"n": 2000, "ranks": 2000},
    "slices": {"n": 1000, "slices": 1000, "ranks": 500},
    "strides": {"n": 1000, "boxes": 1000, "ranks": 500},
    "meshes": {"n": 1000, "meshes": 20, "ranks": 1000},
    "paths": {"n": 300, "words": 300},
}


@pytest.mark.parametrize("name", [*SHARED, ".metadata", "names"])
def test_memory_in_proportion(name, tmp_path):
    """Whatever is named how often: memory grows with the text, and ends."""
    (tmp_path / "in").mkdir()
    others = {".metadata": (distcp.shared_metadata(10000), "it is missing"), "names": (distcp.named_twice(50000), "two of this name")}
    data, *words = others.get(name) or (distcp.shared(**SHARED[name]), "speaks of far more than")
    (tmp_path / "in" / ("metadata.pkl" if name in SHARED else ".metadata")).write_bytes(data)
    prefix = [sys.executable, os.path.join(HERE, "peak.py"), str(tmp_path / "peaks")]
    fails(run(["consolidate", tmp_path / "in", tmp_path / "out"], prefix=prefix), 3, *words)
    (peak,) = peaks(tmp_path / "peaks")
    assert peak <= len(data) * (4096 if name in SHARED else 64) + (24 << 20), (peak, len(data))


def test_a_large_one_is_not_too_much(tmp_path):
    """512 ranks, of which each holds each tensor by strides over 64 others: they are named for each tensor, as those who save do."""
    mesh = {"mesh_shape": (8, 64), "mesh_data": tuple(range(512))}
    place = [{"type": "StridedShard", "dim": 0, "split_factor": 64}, {"type": "Shard", "dim": 0}]

    def group():
        said = {"global_shape": (65536, 8), "dtype": "float32", "mesh_spec": mesh, "placements": place}
        return {"sharding_metadata": {"type": "DTensorShardingMetadata", "data": said}, "ranks": tuple(list(range(512)))}

    files = {r: {"file_path": f"model_{r}.safetensors", "serialization_format": {"type": "SafetensorsSerialization"}} for r in range(512)}
    item = {"rank_to_layout_info": files, "nested_path_to_metadata": {f'["{i}"]': [group()] for i in range(20)}}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "metadata.pkl").write_bytes(pickle.dumps({"metadata": {"model": item}, "world_size": 512, "version": "2.0"}))
    fails(run(["consolidate", tmp_path / "in", tmp_path / "out"]), 3, "model_0.safetensors", "it is missing")


def test_every_byte(saved, tmp_path):
    good = (saved / "metadata.pkl").read_bytes()
    for at in range(0, len(good), 37):
        data = bytearray(good)
        data[at] ^= 1 << (at % 8)
        (saved / "metadata.pkl").write_bytes(data)
        assert run(["inspect", "--summary", saved]).status in (0, 3)


def test_beside_whole_weights_it_is_something_else(saved, tmp_path):
    shutil.copy(os.path.join(GOLDEN, "tc_train", "out", "model.safetensors"), saved)
    for path in saved.glob("model_*"):
        path.unlink()
    shown = run(["inspect", saved])
    assert shown.status == 0 and "consolidated checkpoint" in shown.stdout, show(shown)
