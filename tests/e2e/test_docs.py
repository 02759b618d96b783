"""The programs in docs/library.md compile, without a warning, and do what the page says."""

import glob
import json
import os
import re
import subprocess
import sys

import numpy as np
import oracle
import pytest
from runner import MPIRUN, ROOT, ok, run
from saving import BUILD, start

sys.path.append(os.path.join(ROOT, "bench"))
import plot  # noqa: E402

PAGE = os.path.join(ROOT, "docs", "library.md")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """{name: path}: each block of C in the page that begins with the name of a file."""
    if not MPIRUN:
        pytest.skip("one of them is compiled by mpicc")
    directory, build = tmp_path_factory.mktemp("docs"), os.path.abspath(BUILD)
    with open(PAGE) as f:
        blocks = re.findall(r"```c\n(/\* (\w+)\.c: .*?)```", f.read(), re.DOTALL)
    for text, name in blocks:
        (directory / f"{name}.c").write_text(text)
        compiler = "mpicc" if "shardweld_mpi.h" in text else "cc"
        words = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", os.path.join(ROOT, "include"), directory / f"{name}.c", "-o", directory / name]
        done = subprocess.run([*words, "-L", build, "-lshardweld", f"-Wl,-rpath,{build}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return {name: str(directory / name) for _, name in blocks}


def test_they_are_short():
    with open(PAGE) as f:
        assert len(f.read().splitlines()) < 150


def test_save_then_read(programs, tmp_path):
    ranks = 3
    saved = start(programs["save"], tmp_path / "out", np=ranks)
    assert (saved.status, saved.stderr) == (0, "")
    matrix = np.array([[10 * r + c for c in range(3)] for r in range(ranks)], dtype="<f4")
    want = oracle.serialize({"matrix": oracle.Tensor("F32", matrix.shape, matrix.tobytes())})
    assert oracle.tree(tmp_path / "out") == {oracle.SINGLE: want}
    read = start(programs["read"], tmp_path / "out")
    assert (read.status, read.stdout, read.stderr) == (0, "matrix: 0\n", "")


def test_read_passes_over_integers(programs, tmp_path):
    tensors = {"ids": oracle.Tensor("I64", (2,), bytes(16)), "half": oracle.Tensor("BF16", (1, 2), b"\x80\x3f\0\0"), "none": oracle.Tensor("F32", (0, 3), b"")}
    oracle.write(str(tmp_path / oracle.SINGLE), oracle.serialize(tensors))
    read = start(programs["read"], tmp_path)
    assert (read.status, read.stdout, read.stderr) == (0, "half: 1\n", "")


def test_errors(programs, tmp_path):
    read = start(programs["read"], tmp_path / "nothing")
    assert read.status == 3 and read.stdout == "" and read.stderr.count("\n") == 1
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / oracle.SINGLE).write_bytes(b"mine")
    saved = start(programs["save"], tmp_path / "out", np=2)
    assert saved.status == 2 and "overwrite" in saved.stderr


def test_the_picture(tmp_path):
    """README's picture is what `inspect` draws of a small checkpoint, resharded."""
    rules = ["--rule", "*up_proj*=shard0,shard1", "--rule", "*q_proj*=shard1,shard1"]
    src = os.path.join(ROOT, "tests", "golden", "rows", "out")
    ok(run(["reshard", "-q", "--mesh", "2x2", "--placements", "shard0,shard0", *rules, src, tmp_path / "sharded"]))
    ok(run(["inspect", "--svg", "shards.svg", "sharded"], cwd=tmp_path), quiet=False)
    with open(os.path.join(ROOT, "docs", "pictures", "shards.svg"), "rb") as f:
        assert (tmp_path / "shards.svg").read_bytes() == f.read()


def links():
    """(page, target) of each link in a page to a file of the tree."""
    for page in [os.path.join(ROOT, name) for name in sorted(os.listdir(ROOT)) if name.endswith(".md")] + sorted(glob.glob(os.path.join(ROOT, "docs", "*.md"))):
        with open(page, encoding="utf-8") as f:
            for target in re.findall(r"(?:\]\(|src=\")([^)\s#\"]+)(?:#[^)]*)?[)\"]", re.sub(r"```.*?```|`[^`\n]*`", "", f.read(), flags=re.DOTALL)):
                if "://" not in target:
                    yield page, target


def test_links_lead_somewhere():
    found = list(links())
    assert len(found) > 20
    assert not [(page, target) for page, target in found if not os.path.exists(os.path.join(os.path.dirname(page), target))]


def test_every_page_is_in_the_contents():
    """Of docs, and of the site that `make docs` makes."""
    pages = {os.path.basename(page) for page in glob.glob(os.path.join(ROOT, "docs", "*.md"))}
    for contents, pattern in (("docs/README.md", r"\]\((\w+\.md)[)#]"), ("packaging/site/mkdocs.yml", r"- .*: (\w+\.md)$")):
        with open(os.path.join(ROOT, contents), encoding="utf-8") as f:
            listed = set(re.findall(pattern, f.read(), re.MULTILINE))
        assert not pages - listed - {"README.md"}, contents


def test_the_readme_is_short():
    with open(os.path.join(ROOT, "README.md")) as f:
        assert len(f.read().splitlines()) <= 150


def test_versions_agree():
    """What is cited and what has changed last are the version that is built."""
    texts = {}
    for name in ("include/shardweld.h", "CITATION.cff", "CHANGELOG.md"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            texts[name] = f.read()
    version = re.search(r'#define SW_VERSION "(.*)"', texts["include/shardweld.h"]).group(1)
    assert re.search(r"^version: (.*)$", texts["CITATION.cff"], re.MULTILINE).group(1) == version
    assert re.search(r"^## (\S+)", texts["CHANGELOG.md"], re.MULTILINE).group(1) == version


def test_the_numbers_are_of_one_bench():
    """README's sentence and picture and the table of docs/speed.md."""
    if not os.path.exists(os.path.join(ROOT, "docs", "pictures", "speed.json")):
        pytest.skip("no bench has been kept yet: make bench-plot, on a machine that does nothing else")
    texts = {}
    for name in ("README.md", "docs/speed.md", "docs/pictures/speed.svg", "docs/pictures/speed.json"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            texts[name] = f.read()
    results = json.loads(texts["docs/pictures/speed.json"])
    assert plot.sentence(results) in texts["README.md"] and plot.picture("docs/pictures/") in texts["README.md"]
    assert "\n".join(plot.table(results)) in texts["docs/speed.md"] and plot.picture("pictures/") in texts["docs/speed.md"]
    drawn = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", texts["docs/pictures/speed.svg"]))
    assert results["date"] in drawn and results["machine"]["cpu"] in drawn
    for _, seconds in plot.rows(results):
        assert all(f"{s:.2f} s" in drawn for name, s in seconds.items() if name in plot.COLOURS and s)
