"""inspect: what is shown of healthy checkpoints is what Python reads there, and everything that is wrong is found, with
its cause, however many ranks look."""

import json
import os
import shutil
import struct
import unicodedata
import xml.etree.ElementTree as ElementTree
from math import prod

import oracle
import pytest
from oracle import Box
from runner import HERE, errors, run, show, unprivileged, warnings

GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
BAD = os.path.join(os.path.dirname(HERE), "bad")
SVG = "{http://www.w3.org/2000/svg}"
FINDING_KEYS = {"file", "tensor", "reason", "hint"}


def look(*args, status=0, **more):
    result = run(["inspect", *args], **more)
    assert result.status == status, show(result)
    assert len(errors(result)) == (status != 0), show(result)
    return result


def look_json(*args, status=0, **more):
    result = look("--json", *args, status=status, **more)
    shown = json.loads(result.stdout)
    assert shown["schema"] == 1 and shown["status"] == status
    assert (shown["message"] is None) == (status == 0)
    return shown


def reasons(shown):
    return [f["reason"] for f in shown["findings"]]


def finding(shown, words, tensor=None):
    """The one finding with these words."""
    found = [f for f in shown["findings"] if words in f["reason"] and (tensor is None or f["tensor"] == tensor)]
    assert len(found) == 1, (words, shown["findings"])
    assert set(found[0]) == FINDING_KEYS
    return found[0]


def diagnose(path, *args, np=None, **more):
    """The JSON of a broken checkpoint; tables, and ranks where there are some, must tell the same."""
    shown = look_json(path, *args, status=3, **more)
    assert shown["findings"]
    text = look(path, *args, status=3, **more)
    flat = " ".join(text.stdout.split())
    for f in shown["findings"]:
        for word in (f["reason"], f["hint"], f["tensor"], f["file"]):
            assert not word or " ".join(word.split()) in flat, (word, text.stdout)
    assert f": {len(shown['findings'])} finding" in errors(text)[0]
    if np:
        assert look(path, *args, status=3, np=np).stdout == text.stdout
        assert look_json(path, *args, status=3, np=np) == shown
    return shown


def read_header(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        return json.loads(f.read(size)), 8 + size


def read_boxes(directory):
    """{fqn: {(file, offsets, shape, position)}} of the boxes that are not empty, and {fqn: dtype}."""
    boxes, dtypes = {}, {}
    for name in sorted(n for n in oracle.tree(directory) if n.endswith(".safetensors")):
        header, start = read_header(os.path.join(directory, name))
        info = json.loads(header.get("__metadata__", {}).get("DCP_SHARDING_INFO", "{}"))
        for fqn, entry in header.items():
            if fqn == "__metadata__":
                continue
            offsets = info[fqn]["saved_offsets"] if info else [0] * len(entry["shape"])
            dtypes[fqn] = entry["dtype"]
            kept = boxes.setdefault(fqn, set())
            if prod(entry["shape"]):
                kept.add((name, tuple(offsets), tuple(entry["shape"]), start + entry["data_offsets"][0]))
    return boxes, dtypes


# ---- healthy ones ----------------------------------------------------------------------------------


def healthy():
    for case in sorted(os.listdir(GOLDEN)):
        for side in ("in", "out"):
            # Of distributed checkpoints test_distcp.py and test_tc.py look at what is shown.
            if case.startswith(("distcp_", "tc_")) and side == "in":
                continue
            if os.path.isdir(os.path.join(GOLDEN, case, side)) and not os.path.exists(os.path.join(GOLDEN, case, "status")):
                yield os.path.join(case, side)


@pytest.mark.parametrize("case", healthy())
def test_golden_checkpoints_read_without_findings(case):
    path = os.path.join(GOLDEN, case)
    shown = look_json(path, "-q")
    files = [n for n in oracle.tree(path) if n.endswith(".safetensors")]
    assert shown["findings"] == [] and {f["name"] for f in shown["files"]} == set(files)
    boxes, dtypes = read_boxes(path)
    names = [f["name"] for f in shown["files"]]
    assert [t["name"] for t in shown["tensors"]] == sorted(boxes, key=str.encode)
    for t in shown["tensors"]:
        mine = {(names[b["file"]], tuple(b["offsets"]), tuple(b["shape"]), b["at"]) for b in t["boxes"]}
        assert mine == boxes[t["name"]] and t["dtype"] == dtypes[t["name"]]
        assert not (t["broken"] or t["holes"] or t["overlaps"])
        used = [b for b in t["boxes"] if not b["replica"]]
        assert sum(prod(b["shape"]) for b in used) == t["parameters"] == prod(t["shape"])
        assert sum(b["bytes"] for b in used) == t["bytes"]
    assert shown["totals"]["parameters"] == sum(t["parameters"] for t in shown["tensors"])
    assert shown["totals"]["file_bytes"] == sum(os.path.getsize(os.path.join(path, f)) for f in files)
    assert sum(d["tensors"] for d in shown["dtypes"].values()) == shown["totals"]["tensors"]
    assert sum(d["bytes"] for d in shown["dtypes"].values()) == shown["totals"]["bytes"]


def test_any_number_of_ranks_says_the_same(make, tmp_path):
    src = tmp_path / "in"
    make(src, models={n: 1 + i % 2 for i, n in enumerate(small_names(make, tmp_path))})
    for options in ([], ["--json"], ["--summary"], ["-v"], ["--svg", "-"]):
        assert look(*options, src, np=3).stdout == look(*options, src).stdout


def small_names(make, tmp_path):
    return list(make(tmp_path / "names").tensors)


def test_tables(make, tmp_path):
    make(tmp_path / "in")
    lines = look(tmp_path / "in").stdout.splitlines()
    assert lines[0] == f"{tmp_path / 'in'}: sharded checkpoint"
    rows = [line.split() for line in lines]
    assert any(r[:2] == ["model.embed.weight", "BF16"] and r[-3:] == ["rows", "over", "3"] for r in rows)
    assert any(r[:1] == ["model.empty"] and r[-1] == "empty" for r in rows)
    assert any(r[:1] == ["shard-00002-model-00001-of-00001.safetensors"] for r in rows)
    assert all(line == line.rstrip() for line in lines)


def test_summary_and_glob(sharded):
    _, src, _ = sharded
    text = look("--summary", src).stdout
    assert "parameters" in text and "model.norm" not in text and ".safetensors" not in text
    shown = look_json("--summary", src)
    assert "tensors" not in shown and "files" not in shown and shown["totals"]["tensors"] == 8
    shown = look_json("--tensor", "*.q.weight", "--tensor", "model.norm", src)
    assert [t["name"] for t in shown["tensors"]] == [
        "model.layers.0.q.weight", "model.layers.1.q.weight", "model.layers.10.q.weight", "model.layers.2.q.weight",
        "model.norm",
    ]  # fmt: skip
    assert "1 of 8 tensors" in look("--tensor", "*embed*", src).stdout
    result = look("--tensor", "*", "--tensor", "nothing*", src, status=2)
    assert "nothing*" in errors(result)[0] and result.stdout == ""


def test_metadata(sharded, tmp_path):
    """What files say of themselves, once for all that say it; what would steer a terminal does not; long values are cut."""
    _, src, _ = sharded
    shown = look_json(src)
    assert all(f["metadata"]["format"] == "pt" and not any("SHARD" in key for key in f["metadata"]) for f in shown["files"])
    lines = [line.split() for line in look(src).stdout.splitlines()]
    assert ["metadata", "value", "files"] in lines and ["format", "pt", "3"] in lines
    tensors = {"w": oracle.Tensor("U8", (2,), b"ab")}
    said = {"format": "pt", "who\n\x1b[31m": 'me "\t', "long": "é" * 3000, **{f"k{i:03}": "" for i in range(100)}}
    for name, metadata in (("a.safetensors", said), ("b.safetensors", {"format": "pt"}), ("c.safetensors", {})):
        oracle.write(tmp_path / name, oracle.serialize(tensors, metadata))
    files = [look_json(tmp_path / f"{name}.safetensors")["files"][0]["metadata"] for name in "abc"]
    assert len(files[0]) == 64 and "é" * 500 in files[0]["long"] and len(files[0]["long"]) <= 513 and files[1:] == [{"format": "pt"}, {}]
    text = look(tmp_path / "a.safetensors").stdout
    assert "\x1b" not in text and 'me "?' in text and text.count("\nk0") == 29, text


def test_numbers_that_are_none(make, weld, tmp_path):
    """Counts of the manifest beside a checkpoint; of one that is not whole nothing is said."""
    src, out = tmp_path / "in", tmp_path / "out"
    values = {"good": "0000803f", "bad": "0000c07f0000807f000080ff00000000", "ids": "0100000000000000"}
    tensors = {n: oracle.Tensor("I64" if n == "ids" else "F32", (len(v) // 8 if n != "ids" else 1,), bytes.fromhex(v)) for n, v in values.items()}
    make(src, tensors=tensors, ranks=1)
    assert run(["consolidate", "--manifest", src, out]).status == 0
    said = {t["name"]: (t.get("nan"), t.get("inf")) for t in look_json(out)["tensors"]}
    assert said == {"good": (0, 0), "bad": (1, 2), "ids": (None, None)}
    text = look(out).stdout
    assert "whole, 1 NaN, 2 infinite" in text and "numbers     NaN or infinite in 1 of 2 tensors that the manifest counts" in text
    assert look(out, np=2).stdout == text and look_json(out, np=2) == look_json(out)
    path = out / "shardweld.manifest.json"
    path.write_text(path.read_text().replace('"nan": 1', '"nan": 3'))
    assert "NaN" not in look(out).stdout and "nan" not in look_json(out)["tensors"][0]


def write_moe(directory, layers, experts, ranks):
    """A model of many experts, of which the first layer has none, cut by rows: headers, and holes for the data."""
    norms = {f"model.layers.{i}.input_layernorm.weight": (512,) for i in range(layers)}
    experts = {f"model.layers.{i}.mlp.experts.{e}.{w}.weight": (64, 32) for i in range(1, layers) for e in range(experts) for w in ("w1", "w3")}
    shapes = {"model.embed_tokens.weight": (1024, 512), "model.layers.0.mlp.w1.weight": (512, 512), **norms, **experts, "lm_head.weight": (1024, 512)}
    for rank in range(ranks):
        header, boxes, at = {}, {}, 0
        for name, shape in shapes.items():
            mine = [shape[0] // ranks, *shape[1:]]
            header[name] = {"dtype": "BF16", "shape": mine, "data_offsets": [at, at := at + 2 * prod(mine)]}
            boxes[name] = {"saved_offsets": [rank * mine[0]] + [0] * (len(shape) - 1)}
        metadata = {"DCP_SHARDING_INFO": json.dumps(boxes), "DCP_VERSION": "1.0", "format": "pt"}
        text = json.dumps({"__metadata__": metadata, **header}).encode()
        with open(directory / oracle.shard_name(rank + 1), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + at)
    return shapes


def test_many_tensors_are_few_lines(tmp_path):
    """2,600 tensors in 32 files: what is alike but for its numbers is told once."""
    shapes = write_moe(tmp_path, layers=6, experts=256, ranks=32)
    assert len(shapes) > 2500
    text = look(tmp_path).stdout
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert len(text.splitlines()) < 30, text
    row = lines["model.layers.{1-5}.mlp.experts.{0-255}.w3.weight"]
    assert row[1:] == ["1,280", "x", "BF16", "[64,", "32]", "5.24", "MB", "rows", "over", "32"]
    assert lines["model.layers.{0-5}.input_layernorm.weight"][1:5] == ["6", "x", "BF16", "[512]"]
    assert lines["model.layers.0.mlp.w1.weight"][1:4] == ["BF16", "[512,", "512]"]
    assert lines["shard-{00001-00032}-model-00001-of-00001.safetensors"][1:3] == ["32", "files,"]
    # The sums come last, and are all that a summary is.
    summary = look("--summary", tmp_path).stdout
    assert text.endswith(summary[summary.index("\nfiles ") :]) and len(summary.splitlines()) < 10
    # Each by itself where that is asked for.
    verbose = look("-v", "--tensor", "*.1.mlp.experts.*.w1.*", tmp_path).stdout
    assert len([line for line in verbose.splitlines() if line.startswith("model.")]) == 256 * 33


def test_tree(tmp_path):
    shapes = write_moe(tmp_path, layers=4, experts=8, ranks=2)
    lines = look("--tree", tmp_path).stdout.splitlines()
    rows = {line.split("  ")[0] if line[0] != " " else line.strip().split("  ")[0]: line.split() for line in lines if line}
    total = sum(2 * prod(shape) for shape in shapes.values())
    assert rows["model"][1:3] == [str(len(shapes) - 1), "tensors"] and f"{total:,} bytes" in " ".join(lines[-3:])
    assert rows["{1-3}.mlp.experts.{0-7}"][1:3] == ["48", "tensors"]
    assert rows["w1.weight"][1:4] == ["24", "x", "BF16"]
    at = [line.split()[0] for line in lines if line]
    assert at.index("layers") < at.index("{1-3}.mlp.experts.{0-7}") < at.index("w1.weight")
    for options in (["--json"], ["--boxes"], ["--svg", "-"]):
        look("--tree", *options, tmp_path, status=2)


def test_sort(tmp_path):
    write_moe(tmp_path, layers=4, experts=8, ranks=2)

    def sizes(*options):
        lines = [line.split() for line in look(*options, tmp_path).stdout.splitlines()]
        units = {"B": 1, "KB": 10**3, "MB": 10**6}
        return [(r[0], float(r[i - 1]) * units[u]) for r in lines for i, u in enumerate(r) if u in units and r[0].endswith(".weight") and "," not in r[i - 1]]

    # A group stands where its first tensor would.
    assert [n for n, _ in sizes()] == sorted((n for n, _ in sizes()), key=lambda n: n.replace("{", "").replace("-3}", ""))
    assert [n for n, _ in sizes("--sort", "name")] == [n for n, _ in sizes()]
    by_size = [s for _, s in sizes("--sort", "size")]
    assert by_size == sorted(by_size, reverse=True) and len(set(by_size)) > 2
    tree = [n for n, _ in sizes("--tree", "--sort=size")]
    assert tree.index("embed_tokens.weight") < tree.index("lm_head.weight")


def test_pictures_of_many_tensors(tmp_path):
    """A panel for each group, the legend above them, and no longer than that takes."""
    write_moe(tmp_path, layers=40, experts=16, ranks=32)
    root, panels = picture(tmp_path)
    assert len(panels) == 6
    words = ["".join(p.itertext()) for p in panels]
    assert any("model.layers.{1-39}.mlp.experts.{0-15}.w1.weight" in w and "624 x BF16" in w for w in words), words
    legend = [t for t in root.findall(f"{SVG}text") if t.get("class") == "file"]
    assert len(legend) == 25 and "and 8 more files" in "".join(legend[-1].itertext())
    assert max(float(t.get("y")) for t in legend) < min(float(p.get("y")) for p in panels)
    assert float(root.get("height")) == pytest.approx(max(float(p.get("y")) + float(p.get("height")) for p in panels) + 24, abs=1)
    for p in panels:
        assert max(float(r.get("y")) + float(r.get("height")) for r in p.iter(f"{SVG}rect")) <= float(p.get("height"))


def test_one_file(sharded, tmp_path, rng):
    _, src, _ = sharded
    path = src / oracle.shard_name(2)
    shown = look_json(path)
    assert shown["kind"] == "file" and shown["sharded"] and [f["name"] for f in shown["files"]] == [path.name]
    tensor = next(t for t in shown["tensors"] if t["name"] == "model.embed.weight")
    assert tensor["sharding"] == "box at [4, 0]" and tensor["boxes"][0]["offsets"] == [4, 0]
    assert not tensor["holes"]
    plain = tmp_path / "single.safetensors"
    plain.write_bytes(oracle.serialize({"a": oracle.random_tensor(rng, "F32", (3,))}))
    assert look_json(plain)["tensors"][0]["sharding"] == "whole"
    assert look(plain.name, cwd=tmp_path).stdout.startswith("single.safetensors: one safetensors file\n")


def test_consolidated(make, weld, tmp_path):
    make(tmp_path / "in")
    assert weld(tmp_path / "in", tmp_path / "out").status == 0
    shown = look_json(tmp_path / "out")
    assert shown["kind"] == "plain" and shown["index"] == oracle.INDEX and shown["warnings"] == []
    assert {t["sharding"] for t in shown["tensors"]} == {"whole", "empty"}


@pytest.mark.parametrize("width", [40, 60, 100])
def test_lines_fit_the_terminal(tmp_path, rng, width):
    names = {f"model.{'layers.' * 20}{i}.weight": oracle.random_tensor(rng, "F32", (4, 4)) for i in "abc"}
    names["été." * 30] = oracle.random_tensor(rng, "F32", (4, 4))
    oracle.write_sharded(tmp_path / "in", names, {n: oracle.boxes_of((4, 4), (2,), (0,)) for n in names})
    text = look(tmp_path / "in", env={"COLUMNS": str(width)}, cwd=tmp_path).stdout.splitlines()
    table = text[next(i for i, line in enumerate(text) if line.startswith("tensor ")) :]
    table = table[: table.index("")]
    assert all(len(line) <= max(width, 60) for line in table), table
    assert sum("..." in line for line in table) == 4
    # The end of a name tells most.
    assert width == 40 or all(any(line.split()[0].endswith(f"{i}.weight") for line in table) for i in "abc")
    assert look(tmp_path / "in").stdout.count("...") == 0
    shown = look_json(tmp_path / "in", env={"COLUMNS": str(width)})
    assert [t["name"] for t in shown["tensors"]] == sorted(names, key=str.encode)


def columns(line):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in line)


@pytest.mark.parametrize("width", [36, 80])
def test_wide_characters_fit_the_terminal(tmp_path, rng, width):
    names = ["模型" * 30 + ".weight", "モデル.重み" * 12, "모델" * 40, "e\u0301" * 90, "\U0001f600" * 50]
    tensors = {n: oracle.random_tensor(rng, "F32", (4,)) for n in names}
    oracle.write_sharded(tmp_path / "in", tensors, {n: oracle.boxes_of((4,), (2,), (0,)) for n in names})
    text = look(tmp_path / "in", env={"COLUMNS": str(width)}, cwd=tmp_path).stdout.splitlines()
    table = text[next(i for i, line in enumerate(text) if line.startswith("tensor ")) :]
    table = table[: table.index("")]
    assert len(table) == 1 + len(names) and all(columns(line) <= max(width, 40) for line in table), table
    assert sum("..." in line.split("  ")[0] for line in table) == len(names)
    assert len({columns(line[: line.index("F32")]) for line in table[1:]}) == 1, table


HARMFUL = "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_hostile_names_do_not_reach_the_terminal(tmp_path, rng):
    names = ["\x1b[2J", "a\nb", "tab\t", "\x9b31m", "\u202ereversed", "<&\"'>", "\uffff", "模型\u200fx\u2068y\u2069\u061c\u2028\x7f"]
    tensors = {n: oracle.random_tensor(rng, "U8", (2, 2)) for n in names}
    oracle.write_sharded(tmp_path / "in", tensors, {n: oracle.boxes_of((2, 2), (2,), (0,)) for n in names})
    report = tmp_path / "report.json"
    assert run(["consolidate", "--report", report, "--rename", "\u202e\x9b=\u2066\x7f", tmp_path / "in", tmp_path / "out"]).status == 0
    json_text, picture = look("--json", tmp_path / "in").stdout, look("--svg", "-", tmp_path / "in").stdout
    for text in (look(tmp_path / "in").stdout, json_text, picture, report.read_text("utf-8")):
        assert not any(ord(c) < 32 and c != "\n" or 0x7F <= ord(c) < 0xA0 or c in HARMFUL for c in text), ascii(text)
    # JSON keeps what it escapes, and the rest as it is.
    assert sorted(t["name"] for t in json.loads(json_text)["tensors"]) == sorted(names) and "模型" in json_text
    assert json.loads(report.read_text("utf-8"))["options"]["rename"] == [{"from": "\u202e\x9b", "to": "\u2066\x7f"}]
    assert len(ElementTree.fromstring(picture).findall(f"{SVG}svg")) == len(names)


# ---- broken ones -----------------------------------------------------------------------------------


def test_lost_shard(sharded):
    made, src, _ = sharded
    os.remove(src / oracle.shard_name(1))
    shown = diagnose(src, np=3)
    lost = {n for n, t in made.tensors.items() if t.shape and t.shape[0]}
    f = finding(shown, "from offsets [0, 0]", "model.embed.weight")
    assert shown["findings"] == [f] and f"shard 1 of model 1 is missing; {len(lost) - 1} more tensors have such a gap" in f["reason"]
    assert "killed" in f["hint"] and "--expect-shards" in f["hint"]
    tensor = next(t for t in shown["tensors"] if t["name"] == "model.embed.weight")
    assert tensor["broken"] and tensor["holes"] and tensor["sharding"] == "rows over 3, 1 hole"
    assert {t["name"] for t in shown["tensors"] if t["broken"]} == lost


def test_lost_files_of_a_distributed_checkpoint(tmp_path):
    """One is missing: that is one thing, and what the tensors lack by it another."""
    shutil.copytree(os.path.join(GOLDEN, "distcp_app", "in"), tmp_path / "in")
    os.remove(tmp_path / "in" / "__1_0.distcp")
    shown = diagnose(tmp_path / "in", np=3)
    assert len(shown["findings"]) == 2 and finding(shown, "names it, but it is missing")["file"] == "__1_0.distcp"
    assert sum(t["holes"] for t in shown["tensors"]) > 2
    assert f"; {sum(t['holes'] for t in shown['tensors']) - 1} more tensors have such a gap" in finding(shown, "from offsets")["reason"]
    summary = look("--summary", tmp_path / "in", status=3).stdout
    assert len(summary.splitlines()) < 16, summary


def test_equal_findings_are_one(tmp_path, rng):
    """The index of another model: not a paragraph for each tensor."""
    tensors = {f"t{i}": oracle.random_tensor(rng, "F32", (2,)) for i in range(40)}
    oracle.write_sharded(tmp_path / "in", tensors, {n: oracle.boxes_of((2,), (2,), (0,)) for n in tensors})
    oracle.write_json(str(tmp_path / "other.index.json"), {"weight_map": {"else": "model.safetensors"}})
    shown = diagnose(tmp_path / "in", "--like", tmp_path / "other.index.json")
    assert reasons(shown) == ["the index does not name it; so it is with 39 more tensors"]


def test_expected_shards(make, tmp_path):
    src = tmp_path / "in"
    make(src, ranks=4)
    os.remove(src / oracle.shard_name(4))
    look(src)  # the end of a tensor cannot be missed
    shown = diagnose(src, "--expect-shards", 6, np=2)
    assert reasons(shown) == ["shards 4 to 6 are missing: 6 were expected"]
    assert all("lost" in f["hint"] for f in shown["findings"])
    finding(diagnose(src, "--expect-shards", 2), "shard number 3 occurs")
    shown = diagnose(src, "--expect-shards", 10**12)
    assert reasons(shown) == [f"shards 4 to {10**12} are missing: {10**12} were expected"]


def test_everything_is_found_at_once(make, tmp_path):
    src = tmp_path / "in"
    make(src, ranks=5)
    (src / oracle.shard_name(1)).write_bytes(b"")
    with open(src / oracle.shard_name(2), "r+b") as f:
        f.truncate(os.path.getsize(src / oracle.shard_name(2)) - 3)
    (src / oracle.shard_name(3)).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    (src / oracle.shard_name(6)).mkdir()
    os.symlink("nowhere", src / oracle.shard_name(7))
    shown = diagnose(src, np=2)
    by_file = {f["file"]: f for f in shown["findings"] if not f["tensor"] or "data ends" in f["reason"]}
    assert "killed" in by_file[oracle.shard_name(1)]["hint"]
    assert "shorter" in by_file[oracle.shard_name(2)]["hint"]
    assert "git lfs pull" in by_file[oracle.shard_name(3)]["hint"]
    assert "a directory" in by_file[oracle.shard_name(6)]["reason"]
    assert "leads nowhere" in by_file[oracle.shard_name(7)]["reason"]
    assert [f["broken"] for f in shown["files"]] == [True, True, True, False, False]
    assert "cannot be read" in finding(shown, "from offsets", "model.embed.weight")["hint"]


@pytest.mark.parametrize(
    "content, hint",
    [
        (b"\0" * 4096, "zeros"),
        (b"PK\x03\x04" + b"x" * 100, "zip archive"),
        (b"\x80\x02" + b"x" * 100, "pickle"),
        (b"GGUF" + b"x" * 100, "GGUF"),
        (b"<!DOCTYPE html><html>" + b"x" * 100, "web page"),
        (b"\x40\0\0\0\0\0\0\0{\"a\":", "shorter than its header"),
    ],
    ids=["zeros", "zip", "pickle", "gguf", "html", "cut"],
)
def test_files_that_are_something_else(tmp_path, content, hint):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for what in (path, tmp_path):
        shown = diagnose(what)
        assert len(shown["findings"]) == 1 and hint in shown["findings"][0]["hint"], shown["findings"]


@pytest.mark.parametrize(
    "name, hint",
    [("__0_0.distcp", "without the .metadata"), ("a.bin", ".bin"), ("a.pt", ".pt"), ("a_world_size_4_rank_0.pt", "verl"), ("a.gguf", "GGUF"),
     ("foo.incomplete", "not finished"), ("note.txt", "directory below")],
)  # fmt: skip
def test_no_files_of_ours(tmp_path, name, hint):
    (tmp_path / name).write_bytes(b"x")
    assert hint in finding(diagnose(tmp_path, np=2 if name == "note.txt" else None), "holds no safetensors files")["hint"]


def test_nothing_there(tmp_path):
    shown = diagnose(tmp_path)
    assert len(shown["findings"]) == 1 and shown["tensors"] == []
    result = look(tmp_path / "missing", status=3)
    assert result.stdout == "" and "no such file or directory" in errors(result)[0]
    assert look_json(tmp_path / "missing", status=3)["kind"] is None
    os.mkfifo(tmp_path / "fifo")
    look(tmp_path / "fifo", status=3)


def test_two_saves(make, tmp_path, sharded):
    made, src, _ = sharded
    make(tmp_path / "other", models={n: 1 + (n == "model.norm") for n in made.tensors}, tensors=made.tensors)
    for name in os.listdir(tmp_path / "other"):
        shutil.copy(tmp_path / "other" / name, src / name)
    shown = diagnose(src, np=3)
    assert "other save" in finding(shown, "two saves in one directory")["hint"]


def test_strided_placements(tmp_path):
    shown = diagnose(os.path.join(GOLDEN, "strided", "in"), np=3)
    pairs = [f for f in shown["findings"] if "overlaps" in f["reason"]]
    assert len(pairs) == 2 and all(f["tensor"] == "strided" and "_StridedShard" in f["hint"] for f in pairs)
    assert "_StridedShard" in finding(shown, "offsets [3, 0] on (shape [7, 2]), 2 elements are missing in all", "strided")["hint"]
    tensor = next(t for t in shown["tensors"] if t["name"] == "strided")
    assert tensor["overlaps"] and tensor["holes"] and tensor["sharding"].endswith("overlapping, with holes")
    assert not next(t for t in shown["tensors"] if t["name"] == "fine")["broken"]


def rows(*ends):
    return [Box((a, 0), (b - a, 8)) for a, b in ends]


def test_all_that_is_wrong_in_one_tensor(tmp_path, rng):
    def found(*ends):
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        oracle.write_sharded(tmp_path / "in", {"w": oracle.random_tensor(rng, "F32", (12, 8))}, {"w": rows(*ends)})
        return diagnose(tmp_path / "in")

    shown = found((0, 5), (3, 6), (10, 12))
    finding(shown, "at [3, 0] overlaps", "w")
    finding(shown, "from offsets [6, 0] on (shape [12, 8]), 32 elements are missing in all", "w")
    assert len(shown["findings"]) == 2 and shown["tensors"][0]["holes"] and shown["tensors"][0]["overlaps"]
    root, _ = picture(tmp_path / "in", status=3)
    assert {"missing: no shard file holds this part", "overlap: several boxes claim this part"} <= set(root.itertext())
    shown = found((0, 5), (3, 8), (7, 12))
    finding(shown, "at [3, 0] overlaps", "w")
    finding(shown, "at [7, 0] overlaps", "w")
    assert len(shown["findings"]) == 2 and not shown["tensors"][0]["holes"]
    shown = found((0, 2), (4, 6), (8, 12))
    finding(shown, "from offsets [2, 0] on (shape [12, 8]), 32 elements are missing in all", "w")
    assert len(shown["findings"]) == 1
    shown = found(*((i, i + 2) for i in range(11)))
    assert len(shown["findings"]) == 9 and sum("overlaps, but" in r for r in reasons(shown)) == 8
    finding(shown, "more of its boxes overlap than the 8 pairs", "w")


def test_disagreeing_files(tmp_path, rng):
    """Several kinds of one tensor: each kind is told of once, whoever read the files."""
    src = tmp_path / "in"
    src.mkdir()
    kinds = ["F32", "F32", "BF16", "F32", "BF16", "I64"]
    for i, dtype in enumerate(kinds):
        held = {"w": (oracle.random_tensor(rng, dtype, (12, 2)), Box((2 * i, 0), (2, 2)))}
        if i == 4:
            held["d"] = (oracle.random_tensor(rng, "F32", (2,)), Box((0,), (2,)))
        if i == 5:
            held["d"] = (oracle.random_tensor(rng, "F32", (2, 2)), Box((0, 0), (2, 2)))
        oracle.write_shard(str(src / oracle.shard_name(i + 1)), held)
    shown = diagnose(src, np=3)
    assert finding(shown, "dtype is BF16 here but F32", "w")["file"] == oracle.shard_name(3)
    assert finding(shown, "dtype is I64 here but F32", "w")["file"] == oracle.shard_name(6)
    finding(shown, "2 dimensions here but 1", "d")
    assert len(shown["findings"]) == 3
    assert len(next(t for t in shown["tensors"] if t["name"] == "w")["boxes"]) == 6


def test_with_and_without_sharding_info(sharded, rng):
    _, src, _ = sharded
    tensors = {"extra": oracle.random_tensor(rng, "F32", (2,))}
    (src / oracle.shard_name(4)).write_bytes(oracle.serialize(tensors))
    shown = diagnose(src)
    assert finding(shown, "no DCP_SHARDING_INFO")["file"] == oracle.shard_name(4)


def test_duplicates_in_plain_files(tmp_path, rng):
    t = oracle.random_tensor(rng, "F32", (2,))
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(oracle.serialize({"w": t}))
    assert finding(diagnose(tmp_path), "also in a.safetensors", "w")["file"] == "b.safetensors"


def plain(path, rng, files=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    tensors = {f"t{i}": oracle.random_tensor(rng, "F32", (3, 2)) for i in range(4)}
    mapped = {n: files[i % len(files)] for i, n in enumerate(tensors)}
    oracle.write_plain(str(path), tensors, mapped, oracle.INDEX)
    return mapped


def edit_index(path, change):
    with open(path / oracle.INDEX) as f:
        index = json.load(f)
    change(index["weight_map"])
    oracle.write_json(str(path / oracle.INDEX), index)


def test_what_loaders_trip_over(tmp_path, rng):
    plain(tmp_path, rng)
    assert look_json(tmp_path)["findings"] == []

    def change(weight_map):
        weight_map["tied"] = "model-00001-of-00002.safetensors"
        weight_map["gone"] = "model-00003-of-00003.safetensors"
        weight_map["out"] = "../x.safetensors"
        weight_map["t1"] = "model-00001-of-00002.safetensors"
        del weight_map["t2"]

    edit_index(tmp_path, change)
    (tmp_path / "model.safetensors").write_bytes(oracle.serialize({"old": oracle.random_tensor(rng, "F32", (1,))}))
    shown = diagnose(tmp_path, np=2)
    assert "not copied" in finding(shown, "the index names it, but it is missing")["hint"]
    assert finding(shown, "which is not below its directory")["tensor"] == "out"
    assert finding(shown, "no file holds it", "tied")["file"] == "model-00001-of-00002.safetensors"
    assert "but it is in model-00002" in finding(shown, "says that it is here", "t1")["reason"]
    assert finding(shown, "does not name it", "t2")["file"] == "model-00001-of-00002.safetensors"
    assert finding(shown, "in place of the files")["file"] == "model.safetensors"
    assert len(shown["findings"]) == 6


def test_no_index(tmp_path, rng):
    plain(tmp_path, rng)
    os.remove(tmp_path / oracle.INDEX)
    shown = look_json(tmp_path)
    assert any("no index" in w for w in shown["warnings"])
    os.remove(tmp_path / "model-00001-of-00002.safetensors")
    finding(diagnose(tmp_path), "no file has number 1 of 2")


@pytest.mark.parametrize("text", ["", "{", '{"weight_map": [1]}', '{"weight_map": {"t0": 7}}'])
def test_index_that_cannot_be_read(tmp_path, rng, text):
    plain(tmp_path, rng)
    (tmp_path / oracle.INDEX).write_text(text)
    shown = diagnose(tmp_path)
    assert any(f["file"] == oracle.INDEX and "cannot be read" in f["hint"] for f in shown["findings"])
    assert len(shown["tensors"]) == 4


@pytest.mark.parametrize("name", ["model-old.safetensors", "model.fp16.safetensors", "consolidated.safetensors"])
def test_strays_that_loaders_of_models_take(tmp_path, rng, name):
    plain(tmp_path, rng)
    (tmp_path / ".model.safetensors").write_bytes(b"")
    assert look_json(tmp_path)["warnings"] == []
    (tmp_path / "adapter.safetensors").write_bytes(oracle.serialize({"a": oracle.random_tensor(rng, "F32", (1,))}))
    (warning,) = look_json(tmp_path)["warnings"]
    assert warning.startswith("adapter.safetensors: the index does not name it")
    (tmp_path / name).write_bytes(oracle.serialize({"a": oracle.random_tensor(rng, "F32", (1,))}))
    assert "left over" in finding(diagnose(tmp_path), "the index does not name it")["hint"]


@pytest.mark.parametrize(
    "metadata, words",
    [
        ({"total_size": 97}, "total_size is 97, but the files hold 96"),
        ({"total_size": 96, "total_parameters": 25}, "total_parameters is 25, but the files hold 24"),
        ({"total_size": "96"}, "total_size is no number"),
        ({"total_size": True}, "total_size is no number"),
        ({"total_size": 96, "total_parameters": None}, "total_parameters is no number"),
        ({"format": "pt"}, "has no total_size"),
        (None, "has no metadata"),
    ],
)
def test_totals_of_an_index(tmp_path, rng, metadata, words):
    plain(tmp_path, rng)
    with open(tmp_path / oracle.INDEX) as f:
        index = json.load(f)
    index["metadata"] = {"total_size": 96, "more": [1]}
    oracle.write_json(str(tmp_path / oracle.INDEX), index)
    assert look_json(tmp_path)["warnings"] == []
    index["metadata"] = metadata
    oracle.write_json(str(tmp_path / oracle.INDEX), index)
    shown = look_json(tmp_path)
    assert shown["findings"] == [] and len(shown["warnings"]) == 1 and words in shown["warnings"][0]


def test_an_index_that_names_nothing(tmp_path, rng):
    plain(tmp_path, rng)
    oracle.write_json(str(tmp_path / oracle.INDEX), {"metadata": {"total_size": 96}, "weight_map": {}})
    (warning,) = look_json(tmp_path)["warnings"]
    assert "names no tensors" in warning


def test_an_index_given_as_the_checkpoint(tmp_path, rng):
    plain(tmp_path, rng)
    (tmp_path / "config.json").write_text("{}  \n      ")
    assert "give the directory" in diagnose(tmp_path / oracle.INDEX)["findings"][0]["hint"]
    assert "a JSON file" in diagnose(tmp_path / "config.json")["findings"][0]["hint"]


def test_soft_words_are_warnings(tmp_path, rng):
    data = {"a": oracle.random_tensor(rng, "U8", (3,)), "b": oracle.random_tensor(rng, "F32", (2,))}
    entries, at, body = {}, 0, b""
    for name, t in data.items():
        entries[name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + len(t.data)]}
        at, body = at + len(t.data), body + t.data
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    result = look(tmp_path)
    assert len(warnings(result)) == 2 and "format: pt" in result.stderr and "no multiple" in result.stderr
    assert look("-q", tmp_path).stderr == ""
    assert len(look_json("-q", tmp_path)["warnings"]) == 2


def test_every_bad_file(tmp_path):
    with open(os.path.join(BAD, "cases.txt")) as f:
        cases = [line.rstrip("\n").split("\t") for line in f if line[0] != "#"]
    for name, _, words in cases:
        shown = look_json(os.path.join(BAD, name), status=3)
        assert words.lower() in shown["message"].lower(), (name, shown)
    # All of them at once: each file is told of, the others do not hide it.
    shown = look_json(BAD, status=3, np=2)
    assert {n for n, _, _ in cases} <= {f["file"] for f in shown["findings"]}


def test_what_may_not_be_read_is_no_finding(make, tmp_path):
    outer, theirs = unprivileged(tmp_path)
    make(theirs / "in")
    (theirs / "in" / oracle.shard_name(2)).chmod(0)
    result = look(theirs / "in", status=4, outer=outer)
    assert "shard-00002" in errors(result)[0] and result.stdout == ""
    assert look_json(theirs / "in", status=4, outer=outer)["kind"] is None


@pytest.mark.parametrize("options", [[], ["--json"], ["--svg", "-"]])
def test_standard_output_that_is_full(make, tmp_path, options):
    make(tmp_path / "in")
    with open("/dev/full", "wb") as full:
        result = run(["inspect", *options, tmp_path / "in"], stdout=full)
    assert result.status == 4 and "standard output" in errors(result)[0], show(result)


def test_header_that_begins_like_a_pickle(tmp_path):
    """80 02 is the length 640, too."""
    path = tmp_path / "model.safetensors"
    head = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).ljust(640).encode()
    path.write_bytes(struct.pack("<Q", 640) + head + b"\0" * 8)
    assert path.read_bytes()[:2] == b"\x80\x02"
    shown = diagnose(tmp_path)
    assert "shorter than its header says" in shown["findings"][0]["hint"]
    path.write_bytes(b"\x80\x02}q\x00X\x05\x00\x00\x00")
    assert "pickle" in diagnose(tmp_path)["findings"][0]["hint"]


def test_sizes_that_overflow(tmp_path):
    """A byte at the far end of each tensor: that the sums overflow is told of, and the rest is shown."""
    held = {f"t{i}": oracle.Tensor("U8", (1,), b"\1") for i in range(17)}
    metadata = oracle.shard_metadata(dict.fromkeys(held, (2**60,)))
    (tmp_path / oracle.shard_name(1)).write_bytes(oracle.serialize(held, metadata))
    shown = diagnose(tmp_path)
    finding(shown, "the sizes of the tensors overflow")
    assert shown["totals"]["bytes"] == shown["dtypes"]["U8"]["bytes"] == 2**64 - 1 and len(shown["tensors"]) == 17


# ---- --like ----------------------------------------------------------------------------------------


def test_like(make, weld, tmp_path, rng):
    src, ref = tmp_path / "in", tmp_path / "ref"
    made = make(src)
    assert weld(src, ref).status == 0
    index = ref / oracle.INDEX
    look(src, "--like", index)
    # The end of every tensor is gone: only a reference knows.
    os.remove(src / oracle.shard_name(3))
    shown = diagnose(src, "--like", index, np=3)
    assert {f["tensor"] for f in shown["findings"]} == {n for n, t in made.tensors.items() if t.shape and t.shape[0] > 2}
    assert all("last shard" in f["hint"] for f in shown["findings"])
    edit_index(ref, lambda m: m.update(tied=m["model.norm"]) or m.pop("model.mask"))
    shown = diagnose(src, "--like", index)
    finding(shown, "the index does not name it", "model.mask")
    assert any("tied" in w for w in shown["warnings"])
    broken = ref / "model-00001-of-00001.safetensors"
    broken.write_bytes(broken.read_bytes()[:20])
    for np in (None, 2):
        assert str(broken) in errors(look(src, "--like", index, status=3, np=np))[0]
    look(src, "--like", tmp_path / "missing.json", status=2)
    (tmp_path / "bad.json").write_text("{")
    look(src, "--like", tmp_path / "bad.json", status=3)


# ---- pictures --------------------------------------------------------------------------------------


def rects(panel, kind):
    return [r for r in panel.iter(f"{SVG}rect") if r.get("class") == kind]


def area(rectangles):
    return sum(float(r.get("width")) * float(r.get("height")) for r in rectangles)


def frame(panel):
    (found,) = rects(panel, "frame")
    return found


def picture(path, *options, status=0):
    root = ElementTree.fromstring(look("--svg", "-", path, *options, status=status).stdout)
    return root, root.findall(f"{SVG}svg")


@pytest.mark.parametrize(
    "shape, mesh, placements",
    [((16,), (4,), (0,)), ((16, 6), (4,), (0,)), ((5, 300), (2, 3), (0, 1)), ((3, 9, 4), (3,), (1,)), ((7, 3, 2, 8), (2, 2), (0, 3))],
)
def test_boxes_fill_the_picture(tmp_path, rng, shape, mesh, placements):
    oracle.write_sharded(
        tmp_path / "in", {"w": oracle.random_tensor(rng, "F32", shape)}, {"w": oracle.boxes_of(shape, mesh, placements)}
    )
    _, (panel,) = picture(tmp_path / "in")
    boxes = rects(panel, "box")
    assert len(boxes) == prod(mesh) and len({b.get("fill") for b in boxes}) == prod(mesh)
    assert area(boxes) == pytest.approx(area([frame(panel)]), rel=0.01)
    assert not rects(panel, "hole") and not rects(panel, "overlap")


def test_holes_are_red(tmp_path, rng):
    boxes = oracle.boxes_of((8, 8), (4, 2), (0, 1))
    boxes[2] = boxes[5] = None
    oracle.write_sharded(tmp_path / "in", {"w": oracle.random_tensor(rng, "F32", (8, 8))}, {"w": boxes})
    root, (panel,) = picture(tmp_path / "in", status=3)
    # What is missing is the ground, behind the boxes; it stays to be seen where there is none.
    kinds = [r.get("class") for r in panel.iter(f"{SVG}rect")]
    assert kinds == ["hole"] + 6 * ["box"] + ["frame"]
    assert area(rects(panel, "hole")) == area([frame(panel)])
    assert area(rects(panel, "box")) == pytest.approx(area([frame(panel)]) * 3 / 4, rel=0.01)
    assert "missing" in "".join(root.itertext())


def test_overlaps_are_hatched(tmp_path, rng):
    boxes = [Box((0, 0), (5, 4)), Box((4, 0), (4, 4))]
    oracle.write_sharded(tmp_path / "in", {"w": oracle.random_tensor(rng, "F32", (8, 4))}, {"w": boxes})
    _, (panel,) = picture(tmp_path / "in", status=3)
    assert area(rects(panel, "overlap")) == pytest.approx(area([frame(panel)]) / 8, rel=0.01)


def test_pictures(make, tmp_path):
    src, out = tmp_path / "in", tmp_path / "p.svg"
    made = make(src, replicas=True)
    text = look("--svg", out, src).stdout
    assert "model.norm" in text and os.listdir(tmp_path).count("p.svg") == 1 and len(os.listdir(tmp_path)) == 2
    root = ElementTree.parse(out).getroot()
    assert len(root.findall(f"{SVG}svg")) == len([n for n, t in made.tensors.items() if t.shape and t.shape[0]])
    words = "".join(root.itertext())
    assert oracle.shard_name(2) in words and "those that are sharded" in words
    _, panels = picture(src, "--tensor", "model.norm", "--tensor", "model.empty")
    assert len(panels) == 2
    for bad in (src / oracle.shard_name(1), src / oracle.INDEX, src / "config.json"):
        look("--svg", bad, src, status=2)
    look("--svg", "-", "--json", src, status=2)
    look("--svg", tmp_path / "no" / "p.svg", src, status=4)
    _, panels = picture(src / oracle.shard_name(2), "--tensor", "model.embed.weight")
    assert rects(panels[0], "elsewhere") and not rects(panels[0], "hole")


def test_many_boxes(tmp_path):
    import catalogue

    catalogue.make_grid(tmp_path / "in", 40, 50)
    shown = look_json(tmp_path / "in")
    assert shown["tensors"][0]["sharding"] == "40x50 grid" and len(shown["tensors"][0]["boxes"]) == 2000
    _, (panel,) = picture(tmp_path / "in")
    assert len(rects(panel, "box")) == 2000
