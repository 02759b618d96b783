"""The commands as functions: what they give, what it shows in a terminal and in a notebook, and the bar."""

import base64
import io
import os
import re
import subprocess
import sys
import types
import xml.etree.ElementTree

import numpy as np
import oracle
import pytest
import ranks
import shardweld
import welding
from shardweld import _bar, _program

ONE = {"w": np.arange(24, dtype="float32").reshape(6, 4), "step": 7}


@pytest.fixture
def welded(checkpoint, tmp_path):
    shardweld.consolidate(checkpoint.path, tmp_path / "out")
    return checkpoint.path, str(tmp_path / "out")


@pytest.fixture
def large(tmp_path):
    """64 MiB in two shards, and the same whole."""
    src, whole = tmp_path / "in", tmp_path / "whole"
    tensor = {"w": oracle.Tensor("U8", (64 << 20,), bytes(64 << 20))}
    oracle.write_sharded(src, tensor, {"w": oracle.boxes_of((64 << 20,), (2,), (0,))})
    shardweld.weld(src, whole, comm="self")
    return str(src), str(whole)


# ---- what they give ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
def test_verify(np, welded, tmp_path):
    """True where they are equal; what differs is an answer, the same on every rank, and no error."""
    src, out = welded
    program = (
        "import sys, shardweld\n"
        "v = shardweld.verify(*sys.argv[1:], comm=None)\n"
        "sys.stdout.write(f'{bool(v)} {v.ok} {v.tensors} {v.files} {[f.tensor for f in v.findings]}\\n')\n"
        "try: v.raise_for_findings()\n"
        "except shardweld.DifferenceError as e: sys.stdout.write(f'{e.exit_status} {e.tensor}\\n')\n"
    )
    command = [*ranks.mpirun(np), sys.executable, "-c", program, src, out]
    done = ranks.run(command)
    assert done.status == 0 and done.stdout == "True True 7 1 []\n" * (np or 1), done
    path = os.path.join(out, "model-00001-of-00001.safetensors")
    with open(path, "r+b") as f:
        f.seek(-1, os.SEEK_END)
        last = f.read(1)
        f.seek(-1, os.SEEK_END)
        f.write(bytes([last[0] ^ 1]))
    done = ranks.run(command)
    lines = done.stdout.splitlines()
    assert done.status == 0 and set(lines) == {"False False 7 1 ['c.weight']", "1 c.weight"} and len(lines) == 2 * (np or 1), done


def test_verify_has_errors_too(checkpoint, tmp_path):
    with pytest.raises(shardweld.InputError, match="neither an index nor weights"):
        shardweld.verify(checkpoint.path, tmp_path / "nowhere")
    with pytest.raises(shardweld.UsageError, match="there is no option 'overwrit'; did you mean 'overwrite'"):
        shardweld.verify(checkpoint.path, tmp_path, overwrit=True)


@pytest.mark.parametrize("np", [None, 3])
def test_diff(np, welded, tmp_path):
    """Numbers of what differs, the same on every rank; tolerances, names and mistakes as in C."""
    src, out = welded
    other = str(tmp_path / "other")
    shardweld.weld(src, other, cast_dtype="bf16")
    program = (
        "import sys, shardweld\n"
        "src, out, other = sys.argv[1:]\n"
        "assert shardweld.diff(src, out) and shardweld.diff(src, other, cast_dtype='bf16')\n"
        "d = shardweld.diff(src, other)\n"
        "assert not d and all('BF16' in f.reason for f in d.findings) and d.findings, d\n"
        "sys.stdout.write(f'{len(d.findings)}\\n')\n"
        "try: shardweld.diff(src, out, absolute=-1)\n"
        "except shardweld.UsageError as e: sys.stdout.write(f'{e}\\n')\n"
    )
    done = ranks.run([*ranks.mpirun(np), sys.executable, "-c", program, src, out, other])
    assert done.status == 0 and len(set(done.stdout.splitlines())) == 2, done
    assert done.stdout.count("a tolerance is a number from 0 on") == (np or 1), done


def test_errors_are_in_the_words_of_python(welded):
    """And name no option of the program, no member of C."""
    src, out = welded
    for call in (shardweld.consolidate, lambda a, b: shardweld.reshard(a, a, "2"), lambda a, b: shardweld.save(b, {"w": np.ones(3)})):
        with pytest.raises(shardweld.UsageError) as caught:
            call(src, out)
        assert not re.search(r"sw_|--[a-z]", str(caught.value)), caught.value
    with pytest.raises(shardweld.UsageError, match="overwrite=True"):
        shardweld.consolidate(src, out)
    with pytest.raises(shardweld.UsageError, match="overwrite=True"):
        shardweld.save(out, {"w": np.ones(3)})


def test_what_results_say(welded, tmp_path):
    src, out = welded
    result = shardweld.weld(src, tmp_path / "again")
    assert re.fullmatch(r"<shardweld.WeldResult: 1 file, 7 tensors, \S+ KB in \d+\.\d s, from shards 1 to 4>", repr(result))
    assert "<td>model-00001-of-00001.safetensors</td><td>7</td>" in result._repr_html_()
    verification = shardweld.verify(src, out)
    assert re.fullmatch(r"<shardweld.Verification: equal; 7 tensors, \S+ KB in 1 file compared>", repr(verification))
    os.remove(os.path.join(out, "tokenizer.json"))
    verification = shardweld.verify(src, out)
    first, second = repr(verification).splitlines()
    assert "1 finding;" in first and "tokenizer.json" in second and verification.stats["shards"] == "1 to 4"
    assert "<td>tokenizer.json</td>" in verification._repr_html_() and "<script" not in verification._repr_html_()


# ---- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect(checkpoint):
    seen = shardweld.inspect(checkpoint.path)
    assert seen and seen.ok and seen.findings == [] and seen.values == []
    assert {t.name: (t.dtype, t.shape) for t in seen.tensors} == welding.SHAPES
    assert [f.name for f in seen.files] == [oracle.shard_name(r) for r in (1, 2, 3, 4)] and not any(f.broken for f in seen.files)
    assert "sharded, 4 files" in repr(seen) and "shards 1 to 4; 7 tensors" in repr(seen) and repr(seen).endswith("nothing is wrong>")
    with shardweld.Checkpoint(checkpoint.path) as cp:
        assert repr(cp) == f"<shardweld.Checkpoint {checkpoint.path!r}: sharded, 4 files, 7 tensors>"
    assert repr(cp).endswith("closed>")


def test_inspect_tells_what_is_wrong(checkpoint):
    os.remove(os.path.join(checkpoint.path, oracle.shard_name(2)))
    seen = shardweld.inspect(checkpoint.path, expect_shards=5)
    assert not seen and len(seen.findings) > 1 and repr(seen).splitlines()[0].endswith(f"{len(seen.findings)} findings>")
    assert any("shard 2" in str(f) for f in seen.findings) and any(f.hint for f in seen.findings)
    said = " ".join(f.reason + f.hint for f in seen.findings)
    assert "sw_" not in said and " --" not in said, said
    with pytest.raises(shardweld.InputError):
        shardweld.inspect(checkpoint.path, tolerant=False)
    with pytest.raises(shardweld.MissingError):
        shardweld.inspect(checkpoint.path + "x")


def picture_of(html):
    return base64.b64decode(re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)[1]).decode()


def test_a_notebook_shows_the_picture(checkpoint, tmp_path, monkeypatch):
    """That of `inspect --svg`, whatever the name of the directory is, and where launchers have left their words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    os.rename(checkpoint.path, "-strange <b>")
    seen = shardweld.inspect("-strange <b>")
    html = seen._repr_html_()
    assert "<b>" not in html and picture_of(html) == seen.svg()
    assert xml.etree.ElementTree.fromstring(seen.svg()).tag == "{http://www.w3.org/2000/svg}svg"
    one = seen.svg("a.weight")
    assert "a.weight" in one and "embed.weight" not in one and "embed.weight" in seen.svg(["a.*", "embed.*"])
    program = os.path.join(ranks.BUILD, "shardweld")
    own = subprocess.run([program, "inspect", "--svg=-", "./-strange <b>"], env=ranks.environment(), capture_output=True, check=True)
    assert own.stdout.decode() == seen.svg()


def test_a_notebook_without_the_program(checkpoint, monkeypatch):
    """Shows a table in its place."""

    def nowhere():
        raise FileNotFoundError("no program")

    monkeypatch.setattr(_program, "_find", nowhere)
    seen = shardweld.inspect(checkpoint.path)
    assert "<td>a.weight</td><td>F32</td><td>[16, 12]</td><td>columns over 4</td>" in seen._repr_html_()
    with pytest.raises(FileNotFoundError):
        seen.svg()


# ---- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress, said", [(None, False), (False, False), (True, True)])
def test_a_bar_in_a_file(progress, said, checkpoint, tmp_path, capsys):
    """Where nobody looks at a terminal there are lines, and none unless they are asked for."""
    shardweld.weld(checkpoint.path, tmp_path / "out", progress=progress, buffer_size=4096)
    shardweld.save(tmp_path / "saved", ONE, progress=progress)
    err = capsys.readouterr().err
    assert bool(err) == said
    assert not said or re.fullmatch(r"((consolidate|save) +\d+% \S+ K?B/\S+ K?B \[00:0\d<00:0\d, .*/s\]\n)+", err) and "100%" in err, err


@pytest.mark.parametrize("columns, drawn", [(100, True), (30, False)])
def test_a_bar_on_a_terminal(columns, drawn, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(_bar, "_EVERY", 0)
    bar = _bar.make_bar(True, "verify")
    for done in (0, 1 << 20):
        bar(done, 2 << 20)
    _bar.end_bar(bar, True)
    *lines, last = sys.stderr.getvalue().split("\r")[1:]
    assert len(lines) == 2 and last.startswith("verify 100%") and last.endswith("\x1b[K\n")
    assert ("█" in last) == drawn and all(len(line) <= columns + len("\x1b[K\n") for line in (*lines, last) if drawn)


def test_a_bar_in_a_notebook(monkeypatch):
    """One output of the cell, which is replaced."""
    shown = []

    def display(data, **more):
        shown.append(data)
        assert more == {"raw": True, "display_id": True}
        return types.SimpleNamespace(update=lambda data, raw: shown.append(data))

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=None)
    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    bar = _bar.make_bar(True, "reshard")
    bar(0, 4096)
    bar(4096, 4096)
    _bar.end_bar(bar, False)
    assert [re.search(r'value="([\d.]+)"', data["text/html"])[1] for data in shown] == ["0.0000", "1.0000"]
    assert shown[-1]["text/plain"].startswith("reshard 100% ") and "[00:00<" in shown[-1]["text/plain"] and "<00:" not in shown[-1]["text/html"]


def test_a_bar_under_mpirun_is_drawn_once(large, tmp_path):
    program = "import sys, shardweld\nshardweld.weld(*sys.argv[1:], progress=True)\nshardweld.verify(*sys.argv[1:], progress=True)"
    done = ranks.run([*ranks.mpirun(3), sys.executable, "-c", program, large[0], str(tmp_path / "out")])
    assert done.status == 0 and done.stderr.count("consolidate 100%") == 1 and done.stderr.count("verify 100%") == 1, done


def test_progress_that_is_none(checkpoint, tmp_path):
    for call in (lambda p: shardweld.weld(checkpoint.path, tmp_path / "out", progress=p), lambda p: shardweld.save(tmp_path / "out", ONE, progress=p)):
        with pytest.raises(shardweld.UsageError, match="progress is 3, expected"):
            call(3)


# ---- Ctrl-C -----------------------------------------------------------------------------------------------------------


CALLS = {
    "consolidate": "shardweld.consolidate(src, out, progress=press, buffer_size=4096)",
    "reshard": "shardweld.reshard(src, out, '4', progress=press, buffer_size=4096)",
    "verify": "shardweld.verify(src, whole, progress=press, buffer_size=4096)",
    "save": "shardweld.save(out, shardweld.load(src), progress=press, buffer_size=4096)",
    "load": "later(); [shardweld.load(src) for _ in range(1000)]",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_leaves_nothing(call, large, tmp_path):
    """The signal comes while C runs; once, for a second one kills. What was staged is gone when the exception comes."""
    program = (
        "import os, signal, sys, threading, shardweld\n"
        "src, whole, out = sys.argv[1:]\n"
        "pressed = []\n"
        "def press(done, total):\n"
        "    if 0 < done < total and not pressed:\n"
        "        pressed.append(os.kill(os.getpid(), signal.SIGINT))\n"
        "def later():\n"
        "    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        f"    {CALLS[call]}\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', os.path.exists(out))\n"
    )
    done = ranks.run([sys.executable, "-c", program, *large, str(tmp_path / "out")])
    assert done.stdout == "interrupted False\n", done
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "whole"]
