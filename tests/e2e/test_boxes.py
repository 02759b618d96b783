"""Lists of boxes (docs/boxes.md): what is read by one, what is printed as one, and what of them is refused with which words."""

import json
import os
import shutil

import numpy as np
import oracle
import pytest
from runner import ROOT, fails, ok, run, show

BAD = os.path.join(ROOT, "tests", "bad", "boxes")
GOLDEN = os.path.join(ROOT, "tests", "golden")
RNG = np.random.default_rng(7)


def boxes(path, *options):
    shown = run(["inspect", "--boxes", *options, path])
    assert shown.status == 0, show(shown)
    return shown.stdout


def write_list(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def cut_in_rows(where, t, name="w", parts=3, gap=5, transposed=False):
    """Parts of a tensor in raw files, some bytes before each; the lines that tell of them."""
    width, lines, data = 4, [], np.frombuffer(t.data, dtype="<f4").reshape(t.shape)
    for i in range(parts):
        a, b = (t.shape[0] * k // parts for k in (i, i + 1))
        part = data[a:b].T.copy() if transposed else data[a:b].copy()
        (where / f"part{i}.bin").write_bytes(bytes(gap * width) + part.tobytes() + b"tail")
        line = {"name": name, "dtype": "float32", "shape": list(t.shape), "file": f"part{i}.bin", "offset": gap * width,
                "box": {"offsets": [a, 0], "shape": [b - a, t.shape[1]]}}  # fmt: skip
        lines.append(line | ({"strides": [1, b - a]} if transposed else {}))
    return lines


def welded(tensors):
    return oracle.consolidated(tensors, dict.fromkeys(tensors, oracle.SINGLE), index=None)


@pytest.mark.parametrize("np_, transposed", [(None, False), (3, False), (5, True)])
def test_raw_files(np_, transposed, tmp_path):
    t = oracle.random_tensor(RNG, "F32", (50, 60))
    src = tmp_path / "in"
    src.mkdir()
    listed = write_list(tmp_path / "list", cut_in_rows(src, t, transposed=transposed))
    for assign in ("band", "owner"):
        ok(run(["consolidate", "--boxes", listed, "--assign", assign, "--buffer-size", "4KiB", src, tmp_path / assign], np=np_))
        assert oracle.difference(oracle.tree(tmp_path / assign), welded({"w": t})) == ""
    ok(run(["verify", "--boxes", listed, src, tmp_path / "band"], np=np_))
    if transposed:
        return
    ok(run(["reshard", "--boxes", listed, "--mesh", "4", "--placements", "shard1", src, tmp_path / "cut"], np=np_))
    ok(run(["consolidate", "--single-file", tmp_path / "cut", tmp_path / "again"], np=np_))
    assert oracle.difference(oracle.tree(tmp_path / "again"), welded({"w": t})) == ""
    shown = run(["inspect", "--boxes-from", listed, src], np=np_)
    assert shown.status == 0 and "rows over 3" in shown.stdout, show(shown)


@pytest.mark.parametrize("name", ["rows", "grid", "hsdp", "empty", "scalars", "names", "dtypes", "plain", "models", "by_size", "distcp_train",
                                  "distcp_empty", "distcp_names", "distcp_dtypes", "distcp_grid"])  # fmt: skip
def test_round_trip(name, tmp_path):
    """What is printed of a checkpoint is welded to the same bytes, and printed again as it was."""
    src = os.path.join(GOLDEN, name, "in")
    listed = tmp_path / "list"
    listed.write_text(boxes(src))
    ok(run(["consolidate", "-q", "--include", "*", src, tmp_path / "want"]))
    ok(run(["consolidate", "-q", "--include", "*", "--boxes", listed, src, tmp_path / "out"], np=2 if name.endswith("grid") else None))
    assert oracle.difference(oracle.tree(tmp_path / "out"), oracle.tree(tmp_path / "want")) == ""
    assert boxes(src, "--boxes-from", listed) == listed.read_text()


def test_what_is_printed(tmp_path):
    src = tmp_path / "in"
    src.mkdir()
    t = oracle.random_tensor(RNG, "F32", (6, 5))
    lines = cut_in_rows(src, t, transposed=True)
    listed = write_list(tmp_path / "list", lines)
    got = [json.loads(line) for line in boxes(src, "--boxes-from", listed).splitlines()]
    assert got == [line | {"dtype": "F32"} for line in lines]
    shown = json.loads(run(["inspect", "--json", "--boxes-from", listed, src]).stdout)
    assert [b["strides"] for b in shown["tensors"][0]["boxes"]] == [line["strides"] for line in lines]
    assert boxes(src, "--boxes-from", listed, "--tensor", "w") != ""
    fails(run(["inspect", "--boxes", "--json", "--boxes-from", listed, src]), 2, "only one of --json, --boxes, --tree and --svg")


def test_whole_tensors_and_bytes_that_two_share(tmp_path):
    """A box is left out where it is the tensor; two tensors may lie at one place, and a part of a file in several boxes."""
    src = tmp_path / "in"
    src.mkdir()
    t = oracle.random_tensor(RNG, "BF16", (3, 4))
    (src / "x.bin").write_bytes(t.data)
    line = {"dtype": "BF16", "shape": [3, 4], "file": "x.bin", "offset": 0}
    listed = write_list(tmp_path / "list", [line | {"name": n} for n in ("b", "a")])
    ok(run(["consolidate", "--boxes", listed, src, tmp_path / "out"]))
    assert oracle.difference(oracle.tree(tmp_path / "out"), welded({"a": t, "b": t})) == ""


def test_files_anywhere(tmp_path):
    src, other = tmp_path / "in", tmp_path / "other"
    src.mkdir()
    other.mkdir()
    t = oracle.random_tensor(RNG, "F32", (9, 2))
    lines = cut_in_rows(other, t)
    for line, way in zip(lines, [str(other / "part0.bin"), "../other/part1.bin", f"{other}/../other/part2.bin"]):
        line["file"] = way
    listed = write_list(tmp_path / "list", lines)
    fails(run(["consolidate", "--boxes", listed, src, tmp_path / "out"]), 3, "is not a relative path below its directory", "anywhere")
    for np_ in (None, 2):
        ok(run(["consolidate", "--boxes", listed, "--boxes-anywhere", src, tmp_path / f"out{np_}"], np=np_))
        assert oracle.difference(oracle.tree(tmp_path / f"out{np_}"), welded({"w": t})) == ""
    fails(run(["consolidate", "--boxes-anywhere", src, tmp_path / "no"]), 2, "boxes-anywhere goes with --boxes")
    # What is read lies where it will be written: it is neither replaced nor removed.
    lies = tmp_path / "out2" / "model.safetensors"
    data = lies.read_bytes()
    write_list(listed, [{"name": "w", "dtype": "F32", "shape": [9, 2], "file": str(lies), "offset": len(data) - 72}])
    fails(run(["consolidate", "--overwrite", "--boxes", listed, "--boxes-anywhere", src, tmp_path / "out2"]), 2)
    assert lies.read_bytes() == data


def test_links_to_files_are_followed(tmp_path):
    src = tmp_path / "in"
    src.mkdir()
    t = oracle.random_tensor(RNG, "F32", (6, 2))
    lines = cut_in_rows(src, t)
    (src / "part0.bin").rename(tmp_path / "real.bin")
    (src / "part0.bin").symlink_to(tmp_path / "real.bin")
    listed = write_list(tmp_path / "list", lines)
    ok(run(["consolidate", "--boxes", listed, src, tmp_path / "out"]))
    assert oracle.difference(oracle.tree(tmp_path / "out"), welded({"w": t})) == ""


def test_a_list_is_asked_for(tmp_path):
    src = tmp_path / "in"
    src.mkdir()
    fails(run(["consolidate", "--boxes", tmp_path / "none", src, tmp_path / "out"], np=2), 2, "no such file")
    fails(run(["consolidate", "--boxes", src, src, tmp_path / "out"]), 3, "a directory")
    (src / "x.safetensors").write_bytes(oracle.serialize({}))
    listed = write_list(tmp_path / "list", [])
    fails(run(["inspect", "--boxes-from", listed, src / "x.safetensors"]), 2, "a list of boxes is of a directory")


def bad_lists():
    with open(os.path.join(BAD, "cases.txt"), encoding="utf-8") as f:
        return [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]


@pytest.mark.parametrize("name,words", bad_lists(), ids=[c[0] for c in bad_lists()])
def test_bad_lists(name, words, tmp_path):
    """tests/bad/boxes/NAME.jsonl: one message, status 3, nothing written; whoever reads it."""
    src = tmp_path / "in"
    (src / "dir").mkdir(parents=True)
    (src / "x.bin").write_bytes(bytes(64))
    (src / "dangling").symlink_to("nowhere")
    os.mkfifo(src / "fifo")
    listed = shutil.copy(os.path.join(BAD, name + ".jsonl"), tmp_path / "list")
    for np_ in (None, 2) if name in ("second_line", "gap", "past_the_end", "a_fifo") else (None,):
        fails(run(["consolidate", "--boxes", listed, src, tmp_path / "out"], np=np_), 3, words)
        assert not (tmp_path / "out").exists()
    fails(run(["inspect", "--boxes", "--boxes-from", listed, src]), 3, words)


def test_a_list_from_a_pipe(tmp_path):
    src = tmp_path / "in"
    src.mkdir()
    t = oracle.random_tensor(RNG, "F32", (6, 2))
    write_list(tmp_path / "list", cut_in_rows(src, t))
    words = ["consolidate", "--boxes", "/dev/stdin", src, tmp_path / "out"]
    import subprocess  # noqa: PLC0415 - the runner gives its programs no input

    from runner import command, environment  # noqa: PLC0415

    done = subprocess.run(command(words), stdin=open(tmp_path / "list"), env=environment(), capture_output=True, check=False)  # noqa: SIM115
    assert done.returncode == 0, done.stderr
    assert oracle.difference(oracle.tree(tmp_path / "out"), welded({"w": t})) == ""
