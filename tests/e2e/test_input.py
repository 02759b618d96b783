"""What is read, and what is refused: section 2 of the contract, sentence by sentence."""

import json
import os
import shutil
import socket

import oracle
import pytest
from oracle import Box, Tensor, same, serialize, shard_metadata, shard_name, whole
from runner import fails, ok, run, show, unprivileged, warnings

BAD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bad")


def one(ckpt):
    return ckpt.expect()


def shard(src, i, boxes, **more):
    """boxes: {name: (dtype, shape, offsets, bytes)}; the metadata may be changed by more."""
    held = {n: Tensor(d, tuple(s), b) for n, (d, s, _, b) in boxes.items()}
    metadata = shard_metadata({n: o for n, (_, _, o, _) in boxes.items()})
    metadata.update(more)
    oracle.write(str(src / shard_name(i)), serialize(held, {k: v for k, v in metadata.items() if v is not None}))


def info(text):
    return {"DCP_SHARDING_INFO": text if isinstance(text, str) else json.dumps(text)}


# ---- which files ----------------------------------------------------------------------------------


def test_only_shard_files_when_there_are_some(sharded, weld):
    ckpt, src, out = sharded
    for name in ("other.safetensors", "OTHER.SafeTensors", oracle.model_name(1, 1), "model.safetensors"):
        oracle.write(str(src / name), b"no header")
    result = weld(src, out)
    lines = ["OTHER.SafeTensors: is no shard file by its name, and has no sharding info: it is left out, and so is 1 more file"]
    assert result.status == 0 and warnings(result) == [f"shardweld: warning: {line}" for line in lines], show(result)
    same(out, one(ckpt))


def sharded_other(src, name):
    """A file of another name with the sharding info of a shard."""
    oracle.write(str(src / name), serialize({"b": Tensor("U8", (2,), b"xy")}, shard_metadata({"b": (0,)})))


# Every name: tests/unit/test_filenames.c.
@pytest.mark.parametrize(
    "name", ["shard-00000-model-00001-of-00001.safetensors", "shard-00004-model-00001-of-00001.safetensors.part", "shard-00004-model-00001-of-00001", "rank3.Safetensors"]
)
def test_almost_shards(dirs, make, weld, name):
    """Left out without a word they would be lost: each is an error that names it, in every command."""
    src, out = dirs
    make(src, ranks=3)
    ok(weld(src, out))
    sharded_other(src, name)
    for command in (["consolidate", "--overwrite"], ["verify"], ["reshard", "--ranks=2"]):
        fails(run([*command, src, out if command != ["reshard", "--ranks=2"] else out.parent / "again"]), 3, name)
    shown = run(["inspect", "--json", src])
    assert shown.status == 3 and [f["file"] for f in json.loads(shown.stdout)["findings"]] == [name], show(shown)


def test_what_nobody_takes_for_shards(dirs, make, weld):
    """Other names, hidden ones whatever they are, an index, what lies in directories."""
    src, out = dirs
    ckpt = make(src, ranks=3)
    for name in (".shard-00004-model-00001-of-00001.safetensors.Xa3f", "." + shard_name(9), "._x.safetensors",
                 "shard-00003-model-00001-of-00001.safetensors.sha256", "shards.txt", "model.safetensors", "model-00001-of-00002.safetensors",
                 "diffusion_pytorch_model.safetensors", "shard-00004.log", "deep/x.safetensors"):  # fmt: skip
        oracle.write(str(src / name), b"something else")
    oracle.write_json(str(src / oracle.INDEX), {"weight_map": {"zzz": "model-00001-of-00001.safetensors"}})
    make(src / "optimizer")
    (src / ".dir.safetensors").mkdir()
    ok(weld(src, out, "--no-assets"))
    same(out, one(ckpt))


def test_a_copy_of_a_shard_that_is_there(dirs, make, weld):
    src, out = dirs
    make(src, ranks=3)
    for end in (".bak", ".tmp", "~"):
        shutil.copy(src / shard_name(2), src / (shard_name(2) + end))
    (src / (shard_name(7) + ".d.safetensors")).mkdir()  # a directory is no shard
    result = weld(src, out)
    line = f"shardweld: warning: {shard_name(2)}.bak: is a copy of a shard file that is there: it is left out, and so are 2 more files"
    assert result.status == 0 and warnings(result) == [line], show(result)


def test_other_case_where_all_files_are_taken(dirs, weld):
    src, out = dirs
    oracle.write_plain(str(src), {"a": Tensor("U8", (2,), b"ab")}, {"a": "a.safetensors"})
    oracle.write(str(src / "b.SAFETENSORS"), serialize({"b": Tensor("U8", (2,), b"xy")}))
    result = weld(src, out)
    assert result.status == 0 and len(warnings(result)) == 1 and "b.SAFETENSORS" in warnings(result)[0], show(result)
    sharded_other(src, "b.SAFETENSORS")
    fails(weld(src, out, "--overwrite"), 3, "b.SAFETENSORS")


def test_swapped_operands(dirs, make, weld):
    """A consolidated checkpoint is never welded into a directory of shards, and compared with none."""
    src, out = dirs
    make(src, ranks=3)
    ok(weld(src, out))
    before = oracle.tree(src)
    fails(weld(out, src), 2, "did you swap", str(src))
    fails(weld(out, src, "--overwrite"), 2, "did you swap")
    fails(run(["verify", out, src]), 2, "did you swap")
    fails(run(["reshard", "--ranks=2", out, src]), 2, "holds shard files already", "swapped")
    assert oracle.difference(oracle.tree(src), before) == ""


def test_two_saves_in_one_directory(sharded, weld):
    _, src, out = sharded
    shutil.copy(src / shard_name(1), src / shard_name(1, 1, 2))
    fails(weld(src, out), 3, "two saves")
    assert not out.exists()


def test_links_to_files_are_followed(dirs, make, weld):
    src, out = dirs
    ckpt = make(src.parent / "elsewhere")
    for path in (src.parent / "elsewhere").iterdir():
        (src / path.name).symlink_to(path)
    ok(weld(src, out))
    same(out, one(ckpt))


def test_input_may_be_a_link_and_end_in_a_slash(sharded, weld):
    ckpt, src, out = sharded
    (src.parent / "link").symlink_to(src)
    ok(weld(f"{src.parent}/link/", f"{out}/"))
    same(out, one(ckpt))


@pytest.mark.parametrize("name", [shard_name(4), "x.safetensors"])
@pytest.mark.parametrize("kind", ["directory", "link to one", "fifo", "socket", "dangling", "loop"])
def test_not_a_regular_file(dirs, make, weld, kind, name, monkeypatch):
    src, out = dirs
    if name == shard_name(4):
        make(src)
    path = src / name
    if kind == "directory":
        path.mkdir()
    elif kind == "link to one":
        path.symlink_to(src.parent)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(src)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        path.symlink_to(name)
    fails(weld(src, out, np=2 if kind == "fifo" else None, timeout=60), 3, name)
    assert not out.exists()


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_no_input(dirs, weld, tmp_path, kind):
    _, out = dirs
    oracle.write(str(tmp_path / "file"), b"x")
    oracle.write(str(tmp_path / "empty" / "config.json"), b"{}")
    fails(weld(tmp_path / kind, out, np=2 if kind == "empty" else None), 3, kind)
    assert not out.exists()


def test_an_index_that_names_a_missing_file(dirs, weld, rng):
    src, out = dirs
    tensors = {n: oracle.random_tensor(rng, "F32", (3,)) for n in "ab"}
    oracle.write_plain(str(src), tensors, {"a": "a.safetensors", "b": "b.safetensors"}, oracle.INDEX)
    (src / "b.safetensors").unlink()
    fails(weld(src, out), 3, "b.safetensors")


@pytest.mark.parametrize("text", ["{", '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../a.safetensors"}}'])
def test_an_index_that_is_malformed(dirs, weld, rng, text):
    src, out = dirs
    for directory in (src, src.parent):
        oracle.write(str(directory / "a.safetensors"), serialize({"a": oracle.random_tensor(rng, "F32", (3,))}))
    oracle.write(str(src / oracle.INDEX), text)
    fails(weld(src, out), 3, oracle.INDEX)


# ---- sharding info --------------------------------------------------------------------------------


def box(shape, offsets, data=b""):
    return {"a": ("U8", shape, offsets, data)}


A = {1: box((2, 2), (0, 0), b"\0\1\2\3"), 2: box((2, 2), (2, 0), b"\4\5\6\7")}


def two_rows(src, **more):
    for i, boxes in A.items():
        shard(src, i, boxes, **(more if i == 2 else {}))
    return {"a": Tensor("U8", (4, 2), bytes(range(8)))}


def expected(tensors):
    return oracle.consolidated(tensors, oracle.numbered({n: 1 for n in tensors}))


# All versions, and all members: tests/unit/test_header.c.
def test_versions(dirs, weld):
    src, out = dirs
    tensors = two_rows(src, DCP_VERSION="1.10")
    ok(weld(src, out))
    same(out, expected(tensors))
    two_rows(src, DCP_VERSION="2.0")
    fails(weld(src, out, "--overwrite"), 3, shard_name(2), "DCP_VERSION")


def test_unknown_members_are_ignored(dirs, weld):
    src, out = dirs
    full = {"a": {"saved_offsets": [2, 0], "new": {"deep": [1, None, "x"]}, "global_shape": [4, 2]}, "gone": {"saved_offsets": [0]}}
    tensors = two_rows(src, more="anything", **info(full))
    ok(weld(src, out))
    same(out, expected(tensors))


def test_global_shape_finds_a_lost_end(dirs, weld):
    src, out = dirs
    two_rows(src, **info({"a": {"saved_offsets": [2, 0], "global_shape": [6, 2]}}))
    fails(weld(src, out), 3, "'a'")


# ---- boxes ----------------------------------------------------------------------------------------


# Scalars, empty tensors, more ranks than rows, replicas and 32 dimensions: golden checkpoints, and tests/e2e/test_random.py.
EMPTY = {
    "a shard without tensors": ({**A, 3: {}}, bytes(range(8))),
    # torch writes an empty box with the dimension's size as its offset; others write 0, or the padded place.
    "they do not stretch a tensor": ({**A, 3: box((0, 2), (4, 0)), 4: box((0, 2), (0, 0)), 5: box((2, 0), (0, 7))}, bytes(range(8))),
    "offsets count where all are": ({1: box((0, 2), (0, 0)), 2: box((0, 3), (0, 2))}, b""),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_boxes(dirs, weld, name):
    src, out = dirs
    shards, data = EMPTY[name]
    for i, boxes in shards.items():
        shard(src, i, boxes)
    ok(weld(src, out))
    same(out, expected({"a": Tensor("U8", (4, 2) if data else (0, 5), data)}))


def test_the_first_replica_by_name_is_used(dirs, weld):
    src, out = dirs
    shard(src, 10, box((2, 2), (0, 0), b"10th"))
    shard(src, 2, box((2, 2), (0, 0), b"2nd."))
    shard(src, 1, box((2, 2), (2, 0), b"end."))
    shard(src, 3, box((2, 2), (2, 0), b"3rd."))
    for np in (None, 3):
        result = weld(src, out, "--overwrite", np=np)
        assert result.status == 0 and len(warnings(result)) == 1, show(result)
        assert "no file has shard numbers 4 to 9, those that are there have 1 to 3, 10" in warnings(result)[0]
        same(out, expected({"a": Tensor("U8", (4, 2), b"2nd.end.")}))


# Every kind of gap and overlap: tests/unit/test_check.c.
@pytest.mark.parametrize("boxes, words", [
    ([((0, 0), (2, 4)), ((1, 0), (3, 4))], ["_StridedShard"]),
    ([((0, 0), (2, 4)), ((2, 0), (2, 3)), ((3, 3), (1, 1))], ["[2, 3]"]),
])  # fmt: skip
def test_gaps_and_overlaps_name_the_tensor(dirs, weld, boxes, words):
    src, out = dirs
    for i, (offsets, shape) in enumerate(boxes, 1):
        shard(src, i, {"w.x": ("U8", shape, offsets, bytes(shape[0] * shape[1]))})
    fails(weld(src, out, np=2), 3, "'w.x'", *words)
    assert not out.exists()


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2"])
def test_small_floats_are_copied(dirs, make, weld, rng, dtype):
    src, out = dirs
    tensors = {"r": oracle.random_tensor(rng, dtype, (6, 8)), "odd": oracle.random_tensor(rng, dtype, (8, 3)), "w": oracle.random_tensor(rng, dtype, (2, 4))}
    boxes = {
        "r": oracle.boxes_of((6, 8), (3,), (0,)),
        "odd": [Box((0, 0), (4, 3)), Box((4, 0), (4, 3))],  # a row is no whole number of bytes; a box is
        "w": [whole((2, 4))],
    }
    ckpt = make(src, tensors=tensors, boxes=boxes)
    ok(weld(src, out))
    same(out, one(ckpt))


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2"])
def test_small_floats_along_the_last_dimension(dirs, weld, dtype):
    src, out = dirs
    for i, at in enumerate((0, 8), 1):
        shard(src, i, {"w": (dtype, (2, 8), (0, at), bytes(oracle.nbytes(dtype, (2, 8))))})
    fails(weld(src, out), 3, "'w'", dtype, "last dimension")


# ---- headers --------------------------------------------------------------------------------------


OVERLAP = os.path.join(BAD, "overlap.safetensors")


def test_two_bad_files_are_one_message(dirs, make, weld):
    src, out = dirs
    make(src, ranks=6)
    for i in (2, 3, 5, 6):
        shutil.copy(OVERLAP, src / shard_name(i))
    # But for the rank that met it.
    assert len({fails(weld(src, out, np=np), 3, "shard-0000").split(" (rank ")[0] for np in (None, 3)}) == 1


def bad_cases():
    path = os.path.join(BAD, "cases.txt")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        lines = [line.rstrip("\n").split("\t") for line in f if line.strip() and not line.startswith("#")]
    return [(line + ["", ""])[:3] for line in lines]


@pytest.mark.parametrize("name,status,words", bad_cases(), ids=[c[0] for c in bad_cases()])
def test_bad_files(dirs, weld, name, status, words):
    """tests/bad/NAME, alone in a directory: the status and the words of its line in cases.txt."""
    src, out = dirs
    path = os.path.join(BAD, name)
    for path in [path] if os.path.isfile(path) else [path + ".safetensors"]:
        shutil.copy(path, src / os.path.basename(path))
    result = weld(src, out)
    if int(status) == 0:
        assert result.status == 0, show(result)
    else:
        fails(result, int(status), *filter(None, [words]))
        assert not out.exists()


# ---- plain checkpoints ----------------------------------------------------------------------------


def test_the_same_tensor_in_two_plain_files(dirs, weld, rng):
    src, out = dirs
    for name in ("x.safetensors", "y.safetensors"):
        oracle.write(str(src / name), serialize({"a": oracle.random_tensor(rng, "U8", (2,))}))
    fails(weld(src, out, np=2), 3, "'a'", "y.safetensors")


def test_files_with_and_without_sharding_info(sharded, weld, rng):
    _, src, out = sharded
    oracle.write(str(src / shard_name(4)), serialize({"other": oracle.random_tensor(rng, "U8", (2,))}))
    fails(weld(src, out, np=2), 3, "DCP_SHARDING_INFO")
    assert not out.exists()


def test_shard_names_without_sharding_info(dirs, weld, rng):
    """A plain checkpoint under shard names is plain: whole tensors."""
    src, out = dirs
    tensors = {n: oracle.random_tensor(rng, "U8", (2,)) for n in "ab"}
    for i, n in enumerate(tensors, 1):
        oracle.write(str(src / shard_name(i)), serialize({n: tensors[n]}))
    ok(weld(src, out))
    same(out, expected(tensors))


# ---- lost shards ----------------------------------------------------------------------------------


def test_expect_shards(dirs, make, weld, rng):
    """As many as there are; no fewer, no more, none in the middle; and of shards only."""
    src, out = dirs
    ckpt = make(src, ranks=3, replicas=True)
    ok(weld(src, out, "--expect-shards", 3, np=2))
    same(out, one(ckpt))
    fails(weld(src, out, "--expect-shards", 2, "--overwrite"), 3)
    (src / shard_name(2)).unlink()
    fails(weld(src, out, "--expect-shards", 3, "--overwrite"), 3, "2")
    oracle.write(str(src.parent / "plain" / "x.safetensors"), serialize({"a": oracle.random_tensor(rng, "U8", (2,))}))
    fails(weld(src.parent / "plain", out, "--expect-shards", 1, "--overwrite"), 3)


def test_expect_shards_finds_a_lost_end(dirs, make, weld, rng):
    src, out = dirs
    make(src, ranks=3, tensors={"a": oracle.random_tensor(rng, "U8", (6, 2))})
    (src / shard_name(3)).unlink()
    fails(weld(src, out, "--expect-shards", 3), 3, "3")
    assert not out.exists()
    ok(weld(src, out))  # the shards alone cannot tell


def test_which_shards_are_told(dirs, make, weld, tmp_path):
    """By the plan, the closing line, -v, the report of a failed run too, and inspect."""
    src, out = dirs
    make(src, ranks=3)
    assert weld(src, out, "-n").stdout.endswith("from 3 shard files: shards 1 to 3\n")
    result = weld(src, out, "-v", "--progress", "always", "--report", tmp_path / "report", np=2)
    assert "3 shard files (shards 1 to 3)" in result.stderr and result.stderr.count("/s, from shards 1 to 3\n") == 1, show(result)
    assert json.loads((tmp_path / "report").read_text())["shards"] == "1 to 3"
    assert "with 3 shard files: shards 1 to 3;" in run(["verify", "-v", "--report", tmp_path / "report", src, out]).stderr
    assert json.loads((tmp_path / "report").read_text())["shards"] == "1 to 3"
    (src / shard_name(2)).unlink()
    fails(weld(src, out, "--overwrite", "--report", tmp_path / "report"), 3, "shard 2 of model 1 is missing")
    assert json.loads((tmp_path / "report").read_text())["shards"] == "1, 3"
    assert json.loads(run(["inspect", "--json", src]).stdout)["shards"] == "1, 3"
    assert "\nshards      1, 3\n" in run(["inspect", src]).stdout


def test_holes_in_the_numbers(dirs, make, weld):
    """Legal, and told of once."""
    src, out = dirs
    tensors = {n: Tensor("U8", (2,), n.encode() * 2) for n in "abc"}
    for i, n in zip((2, 3, 7), tensors):
        shard(src, i, {n: ("U8", (2,), (0,), tensors[n].data)})
    for command in (["consolidate"], ["verify"], ["inspect"]):
        result = run([*command, src, *([] if command == ["inspect"] else [out])], np=2)
        assert result.status == 0 and len(warnings(result)) == 1, show(result)
        assert "no file has shard numbers 1, 4 to 6, those that are there have 2, 3, 7" in warnings(result)[0]
    same(out, expected(tensors))


def test_a_lost_middle_is_named_once(dirs, make, weld):
    """By its number; the error names a tensor and the first missing offsets, as all gaps."""
    src, out = dirs
    make(src, ranks=4)
    (src / shard_name(3)).unlink()
    fails(weld(src, out, np=2), 3, "shard 3 of model 1 is missing", "tensor '", "from offsets [")


@pytest.mark.parametrize("mesh", [(4,), (2, 2)])
def test_a_lost_end_of_our_own_shards(sharded, weld, mesh):
    """Full shapes and the list of the set tell of it, whichever shard it is."""
    _, src, out = sharded
    ok(run(["reshard", "--mesh", "x".join(map(str, mesh)), src, src.parent / "own"]))
    ok(weld(src.parent / "own", out))
    for i in (4, 1):
        lost = src.parent / "own" / shard_name(i)
        lost.rename(src.parent / "aside")
        fails(weld(src.parent / "own", out, "--overwrite"), 3, f"shard {i} of model 1 is missing", "tensor '")
        (src.parent / "aside").rename(lost)
    ok(run(["verify", src.parent / "own", out]))


def test_a_lost_end_that_held_whole_tensors(dirs, weld):
    """No shape tells of a tensor that is gone as a whole: the list does."""
    src, out = dirs
    tensors = {"a": Tensor("U8", (2,), b"ab"), "z": Tensor("U8", (2,), b"yz")}
    oracle.write_sharded(str(src), tensors, {"a": [whole((2,)), None], "z": [None, whole((2,))]}, own=True)
    ok(weld(src, out))
    (src / shard_name(2)).unlink()
    fails(weld(src, out, "--overwrite"), 3, "shard 2 of model 1 is missing, which the other files of the set list")
    assert "shard 2 of model 1 is missing" in run(["inspect", src]).stdout
    (src / shard_name(1)).write_bytes(b"")
    shard(src, 1, {"a": ("U8", (2,), (0,), b"ab")}, SHARDWELD_SHARDS="1:2-1")
    fails(weld(src, out, "--overwrite"), 3, "SHARDWELD_SHARDS", shard_name(1))


def test_offsets_that_overflow_name_the_shard(dirs, weld):
    src, out = dirs
    shard(src, 1, {"a": ("U8", (2, 2), (0, 0), b"abcd")})
    shard(src, 2, {"a": ("U8", (2, 2), (2**62, 2**62), b"abcd")})
    fails(weld(src, out), 3, shard_name(2), "overflows")


def test_expect_shards_warns_of_a_model_file_without_one(dirs, make, weld, rng):
    """torch leaves a file out where a rank has nothing to write: the number need not occur in every model file."""
    src, out = dirs
    tensors = {"a": oracle.random_tensor(rng, "U8", (6, 2)), "b": oracle.random_tensor(rng, "U8", (2, 2))}
    boxes = {"a": oracle.boxes_of((6, 2), (3,), (0,)), "b": oracle.boxes_of((2, 2), (2,), (0,))}
    ckpt = make(src, models={"a": 1, "b": 2}, tensors=tensors, boxes=boxes)
    result = weld(src, out, "--expect-shards", 3)
    assert result.status == 0 and len(warnings(result)) == 1, show(result)
    assert "00002-of-00002" in warnings(result)[0] or "model file 2" in warnings(result)[0], show(result)
    same(out, one(ckpt))
    ok(weld(src, out, "--expect-shards", 3, "--overwrite", "-q"))


# ---- what the system refuses ----------------------------------------------------------------------


@pytest.mark.parametrize("what, np", [("shard", 2), ("directory", None)])
def test_unreadable(sharded, weld, tmp_path, what, np):
    _, src, _ = sharded
    outer, out = unprivileged(tmp_path)
    path = src / shard_name(2) if what == "shard" else src
    path.chmod(0)
    try:
        fails(weld(src, out / "x", np=np, outer=outer), 4, shard_name(2) if what == "shard" else "in", "permission denied")
        assert not (out / "x").exists()
    finally:
        path.chmod(0o700)


def test_the_shards_are_never_modified(sharded, weld):
    _, src, out = sharded
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in src.iterdir()}
    ok(weld(src, out))
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in src.iterdir()} == before


def test_not_given_at_all():
    fails(run(["consolidate"]), 2)
