"""Stripes on Lustre, by a liblustreapi of our own (tests/lustre) that notes what it is asked for. The real one has not been tried."""

import errno
import os
import subprocess

import oracle
import pytest
from runner import ROOT, fails, ok, run

HERE = os.path.join(ROOT, "tests", "lustre")
CC = [*os.environ.get("CC", "cc").split(), "-shared", "-fPIC", "-D_GNU_SOURCE"]
GIB = 1 << 30


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The directories of what is preloaded, and of the library."""
    there = tmp_path_factory.mktemp("lustre")
    (there / "lib").mkdir()
    subprocess.run([*CC, "-o", there / "lib" / "liblustreapi.so.1", f"{HERE}/lustreapi.c"], check=True)
    subprocess.run([*CC, "-o", there / "on_lustre.so", f"{HERE}/on_lustre.c", "-ldl"], check=True)
    return there


class Lustre:
    """A directory that is on it, and what was asked of its library."""

    def __init__(self, libraries, tmp_path):
        self.mount, self.log = tmp_path / "mount", tmp_path / "log"
        self.mount.mkdir()
        self.out = self.mount / "out"
        self.env = {
            "LD_PRELOAD": str(libraries / "on_lustre.so"),
            "LD_LIBRARY_PATH": str(libraries / "lib"),
            "LUSTRE_MOUNT": os.path.realpath(self.mount),
            "LUSTRE_LOG": str(self.log),
            "LUSTRE_TARGETS": "9000,9000,9000,9000",
        }

    def weld(self, src, *options, np=None, out=None, **env):
        return run(["consolidate", *options, src, out or self.out], np=np, env={**self.env, **env})

    def created(self):
        """{name: (count, size)}."""
        lines = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        made = {os.path.basename(path): (int(count), int(size)) for _, path, count, size in lines}
        assert len(made) == len(lines)
        return made


@pytest.fixture
def lustre(libraries, tmp_path):
    return Lustre(libraries, tmp_path)


@pytest.fixture
def src(dirs, make):
    """Two model files, and a side file, which is not striped."""
    ckpt = make(dirs[0], models={name: 1 + i % 2 for i, name in enumerate(oracle_names())})
    (dirs[0] / "config.json").write_text("{}")
    return ckpt, dirs[0]


def oracle_names():
    from conftest import small_tensors  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    return list(small_tensors(np.random.default_rng(0)))


FILES = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def large(path):
    """A plain checkpoint of 1 GiB and a bit, a hole but for its header."""
    path.mkdir()
    size = GIB + (64 << 10)
    with open(path / "model.safetensors", "wb") as f:
        f.write(oracle.header([("w", "U8", (size,), size)], {"format": "pt"}))
        f.truncate(f.tell() + size)


@pytest.mark.parametrize("options, np", [([], None), (["--assign", "owner"], 2), (["--store", "stream"], 2)])
def test_as_many_as_the_user_says(lustre, src, options, np):
    ckpt, directory = src
    ok(lustre.weld(directory, "--stripe", "3:128KiB", *options, np=np))
    assert lustre.created() == {name: (3, 128 << 10) for name in FILES}
    got = oracle.tree(lustre.out)
    assert {name: got[name] for name in got if name != "config.json"} == ckpt.expect()


def test_shards(lustre, src):
    ok(run(["reshard", "--ranks", "2", "--stripe", "2", src[1], lustre.out], env=lustre.env))
    assert len(lustre.created()) == 4
    assert set(lustre.created().values()) == {(2, 4 << 20)}


def test_by_way_of_a_staging_directory(lustre, src, tmp_path):
    """Those that stay are striped; the others are elsewhere."""
    ok(lustre.weld(src[1], "--stripe", "2", "--staging-dir", tmp_path / "depot"))
    assert lustre.created() == {name: (2, 4 << 20) for name in FILES}
    lustre.log.unlink()
    ok(lustre.weld(src[1], "--stripe", "2", "--staging-dir", lustre.mount / "depot", out=lustre.mount / "out2"))
    assert lustre.created() == {name: (2, 4 << 20) for name in FILES}


@pytest.mark.parametrize("np", [None, 2])
def test_by_itself_a_large_file(lustre, tmp_path, np):
    """sqrt(1 GiB / 128 MiB) + 1, with four targets; none of what the user did not ask to be spread."""
    large(tmp_path / "big")
    ok(lustre.weld(tmp_path / "big", "--no-sync", np=np))
    assert lustre.created() == {"model.safetensors": (3, 4 << 20)}
    assert os.path.getsize(lustre.out / "model.safetensors") == os.path.getsize(tmp_path / "big" / "model.safetensors")


@pytest.mark.parametrize("there", [
    {"LUSTRE_LAYOUT": "composite"},
    {"LUSTRE_LAYOUT": "pool"},
    {"LUSTRE_LAYOUT": "mdt"},
    {"LUSTRE_LAYOUT": "4"},
    {"options": ["--stripe", "none"]},
    {"LD_LIBRARY_PATH": None},
    {"LUSTRE_TARGETS": None},
    {"LD_PRELOAD": None},
])  # fmt: skip
def test_what_was_chosen_stays(lustre, tmp_path, there):
    options = there.pop("options", [])
    large(tmp_path / "big")
    ok(lustre.weld(tmp_path / "big", "--no-sync", *options, **there))
    assert lustre.created() == {}


def test_small_files_stay(lustre, src):
    result = ok(lustre.weld(src[1], "-v"), quiet=False)
    assert lustre.created() == {}
    assert "stripes: over up to 4 targets of Lustre" in result.stderr


def test_one_that_cannot_have_them(lustre, tmp_path):
    """By itself it is made without; asked for, it is an error."""
    refuse = {"LUSTRE_REFUSE": str(errno.EOPNOTSUPP)}
    large(tmp_path / "big")
    ok(lustre.weld(tmp_path / "big", "--no-sync", **refuse))
    assert os.listdir(lustre.out) == ["model.safetensors"]
    text = fails(lustre.weld(tmp_path / "big", "--stripe", "2", "--overwrite", **refuse), 4)
    assert "model.safetensors: cannot create: Operation not supported" in text
    assert os.listdir(lustre.out) == ["model.safetensors"]


def test_a_full_target(lustre, tmp_path):
    """Those with most room take it; the one that has not enough is named."""
    large(tmp_path / "big")
    text = fails(lustre.weld(tmp_path / "big", LUSTRE_TARGETS="300,9000,-,r9000,9000"), 4)
    assert "no space" in text and "test-OST0000_UUID has 314572800" in text and "takes 360710144 of each of its 3 targets" in text
    assert not lustre.out.exists() and lustre.created() == {}
    ok(lustre.weld(tmp_path / "big", "--no-sync", LUSTRE_TARGETS="300,9000,-,9000,9000"))
    assert lustre.created() == {"model.safetensors": (3, 4 << 20)}


@pytest.mark.parametrize("env, says", [
    ({"LUSTRE_TARGETS": "9000,-,9000"}, "--stripe asks for 3 stripes, and 2 targets take files"),
    ({"LD_PRELOAD": None}, "--stripe asks for stripes, but it is not on Lustre"),
    ({"LD_LIBRARY_PATH": None}, "--stripe asks for stripes, but liblustreapi.so.1 cannot be loaded"),
])  # fmt: skip
def test_what_cannot_be_had(lustre, src, env, says):
    text = fails(lustre.weld(src[1], "--stripe", "3", **env), 2)
    assert says in text
    assert not lustre.out.exists()


@pytest.mark.parametrize("word", ["0", "2001", "-1", "all", "2:", "2:0", "2:1000", "2:4GiB", "2x4", "99999999999", "NONE"])
def test_what_is_no_stripe(lustre, src, word):
    text = fails(lustre.weld(src[1], "--stripe", word), 2)
    assert f"--stripe '{word}' is neither auto, none nor COUNT[:SIZE]" in text
