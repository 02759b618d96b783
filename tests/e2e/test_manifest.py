"""The manifest (docs/manifest.md): its hashes and counts, computed here a second time, for any ranks, buffer, assignment and store;
when it is there, and when it goes; what is refused."""

import ctypes
import hashlib
import json
import os
import shutil
import struct
import subprocess

import numpy as np
import oracle
import pytest
from resharding import reshard
from runner import fails, ok, run, show
from saving import describe, save, saved

MANIFEST = "shardweld.manifest.json"
LEAF = 1 << 20


class Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


LIBRARY = ctypes.CDLL("libxxhash.so.0")
LIBRARY.XXH3_128bits.restype = Hash
LIBRARY.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data):
    h = LIBRARY.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", h.high, h.low)


def tensor_hash(data):
    leaves = [xxh3(data[at : at + LEAF]) for at in range(0, len(data), LEAF)]
    return (xxh3(data) if len(leaves) <= 1 else xxh3(b"".join(leaves))).hex()


def numbers(dtype, data):
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    return np.frombuffer(data, kinds[dtype]) if dtype in kinds else None


def tensors_of(path):
    data = path.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:head])
    entries.pop("__metadata__", None)
    for name, e in entries.items():
        begin, end = e["data_offsets"]
        yield name, e["dtype"], e["shape"], data[head + begin : head + end]


def expected_tensor(file, dtype, shape, data):
    out = {"dtype": dtype, "shape": shape, "file": file, "xxh3": tensor_hash(data)}
    x = numbers(dtype, data)
    if x is not None:
        finite = x[np.isfinite(x)].astype("<f8")
        out |= {"nan": int(np.isnan(x).sum()), "inf": int(np.isinf(x).sum())}
        out |= {"min": float(finite.min()), "max": float(finite.max())} if finite.size else {"min": None, "max": None}
    return out


def check(directory, whole=None):
    """The manifest says of each file and tensor what is there, and has nothing else; its text. whole: what shard files come to."""
    text = (directory / MANIFEST).read_bytes()
    m = json.loads(text)
    assert m["schema"] == 1 and list(m) == ["schema", "origin", "files", "tensors", "self"]
    assert xxh3(text[: text.rindex(b'  "self"')]).hex() == m["self"]
    names = {os.path.relpath(os.path.join(at, f), directory) for at, _, files in os.walk(directory) for f in files} - {MANIFEST}
    assert set(m["files"]) == names
    tensors = {}
    for name in names:
        data, said = (directory / name).read_bytes(), m["files"][name]
        head = 8 + int.from_bytes(data[:8], "little") if name.endswith(".safetensors") else len(data)
        assert said == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "head": head, "head_xxh3": xxh3(data[:head]).hex()}
        if name.endswith(".safetensors") and whole is None:
            tensors |= {t: expected_tensor(name, *of) for t, *of in tensors_of(directory / name)}
    for name, t in (whole or {}).items():
        first = min(f for f in names if f.startswith("shard-") and name in dict((n, 0) for n, *_ in tensors_of(directory / f)))
        tensors[name] = expected_tensor(first, t.dtype, list(t.shape), t.data)
    for name, said in m["tensors"].items():
        if said["dtype"].startswith("F8"):
            for key in ("nan", "inf", "min", "max"):
                said.pop(key)
    assert m["tensors"] == tensors
    return text


def large(rng):
    """Tensors of no, one and several leaves, whose edges fall anywhere; with NaN, without, with nothing else."""
    shapes = {"a": ("F32", (700, 1000)), "b": ("BF16", (2048, 1024)), "c": ("BF16", (1, 3)), "d": ("F8_E4M3", (1500, 1001)), "e": ("F16", (5, 7)),
              "f": ("F64", ()), "g": ("I64", (9, 9)), "h": ("BF16", (0, 4)), "i": ("U8", (LEAF, 1)), "j": ("U8", (LEAF + 1, 1))}  # fmt: skip
    out = {name: oracle.random_tensor(rng, dtype, shape) for name, (dtype, shape) in shapes.items()}
    out["nan"] = out["c"]._replace(data=b"\xc0\x7f" * 3)
    out["one"] = out["e"]._replace(data=np.arange(-17, 18, dtype="<f2").tobytes())
    return out


@pytest.fixture
def built(make, dirs, rng):
    return make(dirs[0], models={n: 1 + i % 2 for i, n in enumerate(large(rng))}, tensors=large(rng), ranks=3)


@pytest.mark.parametrize("command", [("consolidate",), ("reshard", "--mesh", "2x2", "--placements", "shard1,shard0")], ids=lambda c: c[0])
def test_any_way(command, built, dirs, tmp_path):
    """Bytes of the manifest are a function of input and options: bands that cut leaves, regions of several ranks in one file, exchange, streams."""
    texts = set()
    for np_, options in [(None, []), (None, ["--buffer-size", "4KiB"]), (1, ["--store", "stream"]), (2, ["--assign", "band"]),
                         (3, ["--assign", "band", "--buffer-size", "40000"]), (3, ["--assign", "owner"]), (5, ["--assign", "band"]),
                         (5, ["--assign", "owner", "--buffer-size", "100000"]), (2, ["--store", "stream", "--assign", "owner"]),
                         (3, ["--staging-dir", tmp_path / "depot", "--buffer-size", "1MiB"])]:  # fmt: skip
        out = tmp_path / "out"
        (tmp_path / "depot").mkdir(exist_ok=True)
        ok(run([*command, "--manifest", *options, dirs[0], out], np=np_))
        texts.add(check(out, built.tensors if "--mesh" in command else None))
        shutil.rmtree(out)
    assert len(texts) == 1
    assert json.loads(texts.pop())["origin"].get("sharding") == ({"mesh": "2x2", "placements": "shard1,shard0"} if "--mesh" in command else None)


def test_layouts(built, dirs, tmp_path):
    """The same tensor has the same hash wherever it stands; values are hashed as they are stored."""
    of = {}
    for way in (["--single-file"], ["--max-shard-size", "1MB"], ["--cast-dtype", "fp32"], ["--include", "b", "--rename", "=x."]):
        out = tmp_path / "-".join(way).strip("-").replace("=", "")
        ok(run(["consolidate", "--manifest", *way, dirs[0], out]))
        of[way[0]] = json.loads(check(out))
    one, split = (of[w]["tensors"] for w in ("--single-file", "--max-shard-size"))
    assert {n: t["xxh3"] for n, t in one.items()} == {n: t["xxh3"] for n, t in split.items()}
    assert of["--include"]["tensors"]["x.b"]["xxh3"] == one["b"]["xxh3"] != of["--cast-dtype"]["tensors"]["b"]["xxh3"]
    assert of["--cast-dtype"]["origin"]["options"] == {"cast_dtype": "fp32"}
    assert of["--include"]["origin"]["options"] == {"include": ["b"], "name_rules": ["rename =x."]}


def test_origin(built, dirs):
    """Shards by name, size and header; never a path, a host or a time; side files are in it."""
    (dirs[0] / "config.json").write_text("{}")
    (dirs[0] / "map").write_text(json.dumps({n: 1 for n in built.tensors}))
    ok(run(["consolidate", "--manifest", "--fqn-map", dirs[0] / "map", *dirs]))
    m = json.loads(check(dirs[1]))
    assert "config.json" in m["files"] and m["origin"]["options"] == {"fqn_map": "map"} and m["origin"]["command"] == "consolidate"
    for shard in m["origin"]["shards"]:
        data = (dirs[0] / shard["name"]).read_bytes()
        assert shard["size"] == len(data) and shard["header_xxh3"] == xxh3(data[: 8 + int.from_bytes(data[:8], "little")]).hex()
    assert len(m["origin"]["shards"]) == 6 and str(dirs[0]).encode() not in (dirs[1] / MANIFEST).read_bytes()


def test_life(make, dirs, tmp_path):
    """It goes with the checkpoint that it speaks of, and never along as a side file."""
    make(dirs[0])
    ok(run(["consolidate", "--manifest", *dirs]))
    check(dirs[1])
    fails(run(["consolidate", *dirs]), 2, "holds a checkpoint already")
    ok(run(["consolidate", "--overwrite", "--single-file", *dirs]))
    assert MANIFEST not in os.listdir(dirs[1])
    ok(run(["consolidate", "--overwrite", "--manifest", "--single-file", *dirs]))
    check(dirs[1])
    ok(run(["consolidate", "--overwrite", "--store", "stream", *dirs]))
    assert MANIFEST not in os.listdir(dirs[1])
    ok(run(["consolidate", "--overwrite", "--manifest", "--store", "stream", *dirs]))
    check(dirs[1])
    ok(run(["consolidate", dirs[1], tmp_path / "again"]))
    assert MANIFEST not in os.listdir(tmp_path / "again")
    ok(run(["verify", *dirs]))


def test_refuse_nan(make, dirs):
    tensors = {n: oracle.random_tensor(np.random.default_rng(1), "F32", (30, 4))._replace(data=np.ones(120, "<f4").tobytes()) for n in "abcdefg"}
    make(dirs[0], tensors=tensors)
    ok(run(["consolidate", "--refuse-nan", *dirs], np=3))
    shutil.rmtree(dirs[1])
    for name, at, bad in (("b", 7, np.nan), ("c", 119, -np.inf), ("d", 0, np.inf), ("e", 3, np.nan), ("g", 60, np.nan)):
        data = np.ones(120, "<f4")
        data[at] = bad
        tensors[name] = tensors[name]._replace(data=data.tobytes())
    make(dirs[0], tensors=tensors)
    said = "tensor 'b': 1 of its elements are NaN and 0 infinite; so are elements of 'c', 'd', 'e' and 1 more"
    fails(run(["consolidate", "--refuse-nan", *dirs], np=3), 3, said)
    assert not os.path.exists(dirs[1]) or os.listdir(dirs[1]) == []
    ok(run(["consolidate", "--refuse-nan", "--exclude", "[b-g]", *dirs], np=3))


def kept(directory):
    return {name: os.stat(directory / name).st_ino for name in os.listdir(directory)}


def test_if_needed(make, dirs):
    """A second run of the same moves nothing; another input, option, side file or a lost file does."""
    (dirs[0] / "config.json").write_text("{}")
    make(dirs[0])
    (*_, same), words = dirs, ["consolidate", "--if-needed"]
    ok(run([*words, *dirs]))
    check(same)
    was = kept(same)
    said = run([*words, "--buffer-size", "4KiB", *dirs])
    assert said.status == 0 and said.stderr == f"shardweld: {same} holds this checkpoint already: nothing was written\n", show(said)
    said = run([*words, "-q", "--report", dirs[0].parent / "report", *dirs])
    assert said.status == 0 and said.stderr == "" and kept(same) == was, show(said)
    report = json.loads((dirs[0].parent / "report").read_text())
    assert report["unneeded"] is True and report["recovered"] is False and report["bytes_written"] == 0
    for change in (["--cast-dtype", "fp16"], ["--single-file"], ["--exclude", "model.mask"], ["--no-assets"]):
        fails(run([*words, *change, *dirs]), 2, "holds a checkpoint already")
    ok(run([*words, "--overwrite", "--cast-dtype", "fp16", *dirs]))
    assert kept(same) != was
    said = run([*words, "--cast-dtype", "fp16", "--overwrite", *dirs])
    assert "nothing was written" in said.stderr
    (dirs[0] / "config.json").write_text('{"a": 1}')
    fails(run([*words, "--cast-dtype", "fp16", *dirs]), 2, "holds a checkpoint already")
    (dirs[0] / "config.json").write_text("{}")
    os.remove(same / "config.json")
    fails(run([*words, "--cast-dtype", "fp16", *dirs]), 2, "holds a checkpoint already")


# ---- check --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def proven(built, dirs):
    (dirs[0] / "config.json").write_text("{}")
    (dirs[0] / "__init__.py").write_text("")
    (dirs[0] / "merges.txt").write_text("a")
    ok(run(["consolidate", "--manifest", "--overwrite", *dirs]))
    return dirs[1]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def differs(result, *lines):
    """Status 1, and exactly these findings, as far as they are told."""
    assert result.status == 1, show(result)
    said = result.stdout.splitlines()
    assert len(said) == len(lines) and all(any(line in s for s in said) for line in lines), show(result)


@pytest.mark.parametrize("np_, options", [(None, ()), (None, ("--buffer-size", "4KiB")), (3, ()), (5, ("--buffer-size", "4KiB"))])
def test_check(np_, options, proven):
    """Each byte counts, whoever reads it: in the midst of tensors of several leaves, at the ends of files, in side files and index."""
    ok(run(["check", *options, proven], np=np_))
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    flip(proven / first, -1)
    flip(proven / second, 3 * LEAF)
    flip(proven / "config.json", 0)
    flip(proven / "model.safetensors.index.json", 40)
    differs(run(["check", *options, proven], np=np_), f"{first}: tensor '", f"{second}: tensor 'b': is not what was written: its hash is",
            "config.json: it is not what was written", "model.safetensors.index.json: it is not what was written")  # fmt: skip


def test_check_files(proven):
    """Cut, missing and strange files; tensors that have gone with them are not told one by one."""
    first, second = (proven / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    shutil.copy(first, proven / "model-extra.safetensors")
    shutil.copy(first, proven / "shard-00001-model-00001-of-00001.safetensors")
    (proven / "notes.txt").write_text("mine")
    differs(run(["check", proven]), "model-extra.safetensors: is not in the manifest")
    os.remove(proven / "model-extra.safetensors")
    os.remove(proven / "config.json")
    size = first.stat().st_size
    os.truncate(first, size - 1)
    os.remove(second)
    said = run(["check", proven], np=2)
    assert said.status == 1
    for line in (f"{first.name}: has {size - 1} bytes, {size} were written", f"{second.name}: is missing", "config.json: is missing"):
        assert line in said.stdout, said


def test_check_headers(proven):
    """Another header that is as long: the file is told, and each tensor that is another now."""
    first = proven / "model-00001-of-00002.safetensors"
    data = first.read_bytes()
    first.write_bytes(data.replace(b'"a"', b'"z"', 1))
    differs(run(["check", "--quick", proven], np=2), f"{first.name}: its header is not what was written", "tensor 'a': is missing",
            "tensor 'z': is not in the manifest")  # fmt: skip
    first.write_bytes(data.replace(b'"F32","shape":[700,1000]', b'"I32","shape":[1000,700]', 1))
    differs(run(["check", "--quick", proven]), f"{first.name}: its header is not", "tensor 'a': is I32 [1000, 700], was written as F32 [700, 1000]")


def test_quick(proven):
    flip(proven / "model-00001-of-00002.safetensors", -1)
    flip(proven / "config.json", 0)
    ok(run(["check", "--quick", proven]))
    flip(proven / "model.safetensors.index.json", 40)
    differs(run(["check", "--quick", proven]), "model.safetensors.index.json: it is not what was written")


def test_sums(proven):
    """`sha256sum -c` takes the list; it needs no library that makes hashes."""
    said = run(["check", "--sums", proven], np=2)
    assert said.status == 0
    done = subprocess.run(["sha256sum", "-c", "--strict"], input=said.stdout, cwd=proven, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count(": OK") == 6, done


def test_check_refused(make, dirs, proven, tmp_path):
    ok(run(["consolidate", dirs[0], tmp_path / "bare"]))
    fails(run(["check", tmp_path / "bare"]), 3, "holds no shardweld.manifest.json")
    (tmp_path / "bare" / MANIFEST).write_text("")
    fails(run(["check", tmp_path / "bare"]), 3, "is empty")
    (tmp_path / "bare" / MANIFEST).write_text('{"schema": 2}')
    fails(run(["check", tmp_path / "bare"], np=2), 3, "another schema")
    text = (proven / MANIFEST).read_text()
    (proven / MANIFEST).write_text(text.replace('"model-00001', '"../../odel'))
    fails(run(["check", proven]), 3, "names a file outside of its directory")
    fails(run(["check", tmp_path / "nowhere"]), 3, "holds no")


def test_linked(proven, tmp_path):
    """A hub's cache has links to files elsewhere under every name."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in os.listdir(proven):
        os.symlink(proven / name, linked / name)
    ok(run(["check", linked]))


def test_verify_looks_at_it(proven, dirs):
    ok(run(["verify", *dirs], np=2))
    text = (dirs[1] / MANIFEST).read_text()
    (dirs[1] / MANIFEST).write_text(text.replace('"nan": 0', '"nan": 1', 1))
    differs(run(["verify", *dirs], np=2), "shardweld.manifest.json: is not as it was written")


# ---- shard files --------------------------------------------------------------------------------------------------------------------


def tensors_in(directory):
    """What the manifest tells of each tensor, but for where it stands."""
    said = json.loads((directory / MANIFEST).read_text())["tensors"]
    return {name: {key: value for key, value in t.items() if key != "file"} for name, t in said.items()}


MESHES = [((1,), None), ((4,), None), ((2, 3), (1, 0)), ((3,), (1,)), ((2, 2), (0, None))]


@pytest.mark.parametrize("mesh, placements", MESHES)
def test_reshard(mesh, placements, built, dirs, tmp_path):
    """The same tensor has the same hash, counts and range in whatever boxes it lies; check proves it, by any ranks."""
    ok(run(["consolidate", "--manifest", dirs[0], tmp_path / "whole"]))
    ok(reshard(dirs[0], tmp_path / "cut", "--manifest", mesh=mesh, placements=placements))
    check(tmp_path / "cut", built.tensors)
    assert tensors_in(tmp_path / "cut") == tensors_in(tmp_path / "whole")
    ok(run(["check", tmp_path / "cut"], np=2 if len(mesh) == 2 else None))
    done = subprocess.run(
        ["sha256sum", "-c", "--strict"], input=run(["check", "--sums", tmp_path / "cut"]).stdout, cwd=tmp_path / "cut", capture_output=True, text=True
    )
    assert done.returncode == 0, done
    # by the manifests alone, and from one set to another
    ok(reshard(tmp_path / "cut", tmp_path / "again", "--manifest", mesh=(5,)))
    assert tensors_in(tmp_path / "again") == tensors_in(tmp_path / "whole")
    said = run(["diff", "-v", tmp_path / "cut", tmp_path / "again"])
    assert said.status == 0 and "of which both manifests tell the same" in said.stderr, show(said)


def test_reshard_values(built, dirs, tmp_path):
    """What is hashed and counted is what is written: cast, renamed, left out."""
    options = ["--cast-dtype", "fp32", "--exclude", "a", "--rename", "=x.", "--manifest"]
    ok(run(["consolidate", *options, dirs[0], tmp_path / "whole"], np=2))
    ok(reshard(dirs[0], tmp_path / "cut", *options, mesh=(3,), np=2))
    assert tensors_in(tmp_path / "cut") == tensors_in(tmp_path / "whole")
    ok(run(["check", tmp_path / "cut"]))


@pytest.mark.parametrize("np_", [1, 3])
def test_saved_shards(np_, rng, tmp_path):
    """What ranks save is read back, and told as of whole tensors; empty boxes and tensors, replicas, any strides."""
    tensors = {n: t for n, t in large(rng).items() if n not in "ij"}
    boxes = {n: oracle.boxes_of(t.shape, (np_,), (len(t.shape) - 1 if n in "ad" else 0 if t.shape and n != "b" else None,)) for n, t in tensors.items()}
    spec = describe(str(tmp_path / "memory"), tensors, boxes, rng)
    saved(save("consolidated", spec, tmp_path / "whole", "manifest", np=np_))
    saved(save("shards", spec, tmp_path / "shards", "manifest", np=np_))
    check(tmp_path / "shards", tensors)
    assert tensors_in(tmp_path / "shards") == tensors_in(tmp_path / "whole")
    ok(run(["check", tmp_path / "shards"], np=2))
    text = (tmp_path / "shards" / MANIFEST).read_bytes()
    saved(save("shards", spec, tmp_path / "shards", "manifest", "overwrite", "buffer_size=4KiB", np=np_))
    assert (tmp_path / "shards" / MANIFEST).read_bytes() == text
    saved(save("shards", spec, tmp_path / "shards", "overwrite", np=np_))
    assert MANIFEST not in os.listdir(tmp_path / "shards")
    said = save("shards", spec, tmp_path / "shards", "overwrite", "refuse_nan", np=np_)
    assert said.status == 3 and "so are elements of" in said.stdout, show(said)


@pytest.fixture
def cut(built, dirs):
    (dirs[0] / "config.json").write_text("{}")
    ok(reshard(dirs[0], dirs[1], "--manifest", "--overwrite", mesh=(2, 2), placements=(0, 1)))
    return dirs[1]


@pytest.mark.parametrize("np_, options", [(None, ("--buffer-size", "4KiB")), (3, ())])
def test_check_shards(np_, options, cut):
    """File and tensor are told, of each file that is another now; a file that is cut, missing or strange."""
    names = sorted(n for n in os.listdir(cut) if n.startswith("shard-"))
    first, second = (n for n in names if n.startswith("shard-00002-"))
    flip(cut / first, -1)
    flip(cut / second, -1)
    flip(cut / "config.json", 0)
    differs(run(["check", *options, cut], np=np_), f"{first}: tensor '", f"{second}: tensor '", "config.json: it is not what was written")
    ok(run(["check", "--quick", *options, cut], np=np_))
    flip(cut / first, -1)
    flip(cut / second, -1)
    flip(cut / "config.json", 0)
    ok(run(["check", *options, cut], np=np_))
    shutil.copy(cut / first, cut / oracle.shard_name(9, 1, 2))
    (cut / "model.safetensors").write_bytes(oracle.serialize({}))
    differs(run(["check", *options, cut], np=np_), f"{oracle.shard_name(9, 1, 2)}: is not in the manifest")
    os.remove(cut / oracle.shard_name(9, 1, 2))
    # a part of what cannot be put together any more is proven, too
    flip(cut / names[0], 8 + int.from_bytes((cut / names[0]).read_bytes()[:8], "little"))
    os.remove(cut / first)
    differs(run(["check", *options, cut], np=np_), f"{first}: is missing", f"{names[0]}: is not what was written")


def test_check_places(make, dirs):
    """Boxes that have changed places: as whole files the headers tell, their data alone the tensor that comes of it."""
    make(dirs[0], tensors={"a": oracle.random_tensor(np.random.default_rng(1), "F32", (30, 40))})
    ok(reshard(dirs[0], dirs[1], "--manifest", mesh=(2,)))
    names = [oracle.shard_name(i) for i in (1, 2)]
    data = [(dirs[1] / n).read_bytes() for n in names]
    assert len(data[0]) == len(data[1])
    for name, other in zip(names, reversed(data)):
        (dirs[1] / name).write_bytes(other)
    for quick in ([], ["--quick"]):
        said = run(["check", *quick, dirs[1]])
        assert said.status == 1 and all(f"{name}: its header is not what was written" in said.stdout for name in names), show(said)
    for name, own, other in zip(names, data, reversed(data)):
        head = 8 + int.from_bytes(own[:8], "little")
        (dirs[1] / name).write_bytes(own[:head] + other[head:])
    differs(run(["check", dirs[1]]), *(f"{name}: tensor 'a': is not what was written" for name in names))
    ok(run(["check", "--quick", dirs[1]]))


def test_life_of_shards(built, dirs, cut, tmp_path):
    """It goes with the shards that it speaks of, and with no others; a checkpoint beside them has to do without."""
    text = (cut / MANIFEST).read_bytes()
    fails(reshard(dirs[0], cut), 2, "holds shard files already")
    ok(run(["consolidate", "-q", dirs[0], cut]))
    ok(run(["check", cut]))
    assert (cut / MANIFEST).read_bytes() == text
    fails(run(["consolidate", "--manifest", "--overwrite", "-q", dirs[0], cut]), 2, f"{MANIFEST}: it is in the output directory and is no part")
    ok(run(["consolidate", "--overwrite", "-q", dirs[0], cut]))
    assert (cut / MANIFEST).read_bytes() == text
    ok(reshard(dirs[0], cut, "--overwrite", "-q", "--store", "stream", "--manifest"))
    ok(run(["check", cut]))
    ok(reshard(dirs[0], cut, "--overwrite", "-q"))
    assert MANIFEST not in os.listdir(cut)
    ok(run(["consolidate", "--manifest", "--overwrite", "-q", dirs[0], cut]))
    ok(run(["check", cut]))
    ok(reshard(dirs[0], cut, "--overwrite", "-q", mesh=(3,)))
    ok(run(["check", cut]))


def test_shards_if_needed(make, dirs):
    make(dirs[0])
    said = reshard(dirs[0], dirs[1], "--if-needed", np=2)
    ok(said)
    was = kept(dirs[1])
    said = reshard(dirs[0], dirs[1], "--if-needed", "--buffer-size", "4KiB", np=2)
    assert said.status == 0 and said.stderr == f"shardweld: {dirs[1]} holds this checkpoint already: nothing was written\n", show(said)
    assert kept(dirs[1]) == was
    for change in ({"mesh": (3,)}, {"placements": (1,)}):
        fails(reshard(dirs[0], dirs[1], "--if-needed", np=2, **change), 2, "holds shard files already")
    os.remove(dirs[1] / oracle.shard_name(2))
    fails(reshard(dirs[0], dirs[1], "--if-needed", np=2), 2, "holds shard files already")
    ok(reshard(dirs[0], dirs[1], "--if-needed", "--overwrite", np=2))
    ok(run(["check", dirs[1]]))


def test_shards_refuse_nan(make, dirs):
    data = np.ones((6, 4), "<f4")
    ones = oracle.Tensor("F32", (6, 4), data.tobytes())
    data[5, 3] = np.inf
    data[0, 0] = np.nan
    make(dirs[0], tensors={"a": ones, "b": oracle.Tensor("F32", (6, 4), data.tobytes())})
    fails(reshard(dirs[0], dirs[1], "--refuse-nan", mesh=(2,), placements=(1,)), 3, "tensor 'b': 1 of its elements are NaN and 1 infinite")
    assert not os.path.exists(dirs[1])
    ok(reshard(dirs[0], dirs[1], "--refuse-nan", "--exclude", "b"))
    assert MANIFEST not in os.listdir(dirs[1])
