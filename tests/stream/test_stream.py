"""Stores that only take a stream: the same bytes, found out by trial, nothing half made that a loader would take."""

import json
import os
import signal
import time
from collections import Counter

import numpy as np
import oracle
import pytest
import saving
from runner import SHARDWELD, fails, finish, ok, run, show, start

INDEX = oracle.INDEX
MODEL_1 = oracle.model_name(1, 3)


def test_found_out_and_told(scene, store, tmp_path):
    out = store.mount() / "out"
    result = scene.weld(out, "-v", "--report", tmp_path / "report", np=2)
    assert result.status == 0 and scene.holds(out), show(result)
    want = "store: fuse.stream_store, by stream (writes in the middle no, renames no, locks yes, reserves room no)"
    assert want in result.stderr.splitlines(), result.stderr
    assert json.loads((tmp_path / "report").read_text())["store"] == {
        "kind": "stream", "type": "fuse.stream_store", "objects": False,
        "rewrites": False, "renames": False, "locks": True, "reserves": False, "targets": 0,
    }  # fmt: skip
    assert scene.weld(tmp_path / "plain", "-v").stderr.count("by random writes (writes in the middle yes, renames yes") == 1


@pytest.mark.parametrize("np", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("assign", ["band", "owner"])
@pytest.mark.parametrize("words", [[], ["rename"]])
def test_the_same_bytes(scene, store, np, assign, words):
    """More files than ranks, and fewer; each is opened once and written in order, or the store would refuse it."""
    out = store.mount(*words) / "a" / "b"
    ok(scene.weld(out, "--assign", assign, "--verify", np=np))
    assert scene.holds(out) and scene.holds(store.backing / "a" / "b")


@pytest.mark.parametrize("np", [None, 3])
def test_asked_for_on_any_disk(scene, tmp_path, np):
    out = tmp_path / "out"
    for _ in range(2):
        result = scene.weld(out, "--store", "stream", "--overwrite", "-v", np=np)
        assert result.status == 0 and scene.holds(out) and "by stream" in result.stderr, show(result)


def test_asked_for_in_vain(scene, store):
    """What cannot be done is said, and nothing is left of it."""
    out = store.mount() / "out"
    fails(scene.weld(out, "--store", "random"), 4, "Operation not permitted")
    assert oracle.tree(store.path) == {}


@pytest.mark.parametrize("np", [None, 3])
def test_overwrite(scene, store, np):
    """By files of the same names, and of others; what is none of the checkpoint's stays."""
    out = store.mount() / "out"
    ok(scene.weld(out, which="old"))
    (out / "notes").write_text("mine")
    fails(scene.weld(out, np=np), 2, "--overwrite")
    assert scene.holds(out, "old") is False and (out / "notes").read_text() == "mine"
    ok(scene.weld(out, "--overwrite", "--verify", np=np))
    (out / "notes").unlink()
    assert scene.holds(out)
    ok(scene.weld(out, "--overwrite", "--max-shard-size", "20KB", "--no-assets", np=np))
    names = set(oracle.tree(out))
    assert INDEX in names and "config.json" in names and "model-00001-of-00003.safetensors" not in names
    ok(run(["verify", scene.inputs["new"], out]))


def test_a_single_file(scene, store, tmp_path):
    """Where the store cannot rename it would be loaded before it is whole: refused before anything is touched."""
    out = store.mount() / "out"
    ok(scene.weld(out, which="old"))
    fails(scene.weld(out, "--single-file", "--overwrite"), 2, "max-shard-size", "staging-dir")
    assert scene.holds(out, "old")
    ok(scene.weld(out, "--single-file", "--overwrite", "--staging-dir", tmp_path / "staging", np=2))
    assert oracle.difference(oracle.tree(out), scene.lone) == "" and not (tmp_path / "staging").exists()


@pytest.mark.parametrize("np", [None, 2])
def test_a_single_file_where_it_can_be_renamed(scene, store, np):
    out = store.mount("rename") / "out"
    ok(scene.weld(out, which="old"))
    process = start(scene.args(out, "--single-file", "--overwrite"), np=np, env={"SHARDWELD_FAULT": "pread:0:1:stop"})
    wait_for(lambda: (out / ".shardweld-staging" / "new" / oracle.SINGLE).exists())
    assert scene.holds_visibly(out, "old")
    resume(process)
    assert finish(process).status == 0
    assert oracle.difference(oracle.tree(out), scene.lone) == ""


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def resume(process):
    os.killpg(process.pid, signal.SIGCONT)


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
def test_full(scene, store, np):
    out = store.mount() / "out"
    ok(scene.weld(out, which="old"))
    store.mount(f"full={scene.size // 2}")
    fails(scene.weld(out, "--overwrite", np=np), 4, "No space left on device")
    assert oracle.tree(store.path) == {}
    store.mount()
    ok(scene.weld(out))
    assert scene.holds(out)


@pytest.mark.parametrize("broken", ["model-00002-of-00003.safetensors", INDEX, "config.json"])
@pytest.mark.parametrize("np", [None, 3])
def test_lost_at_closing(scene, store, broken, np):
    """close(2) is the only one that says so."""
    out = store.mount(f"broken={broken}") / "out"
    message = fails(scene.weld(out, np=np), 4, broken, "Input/output error")
    assert "close" in message and oracle.tree(store.path) == {}
    store.mount()
    ok(scene.weld(out, np=np))
    assert scene.holds(out)


def test_a_bit_that_changed_on_the_way(scene, store):
    out = store.mount() / "out"
    fails(scene.weld(out, "--verify", env={"SHARDWELD_FAULT": "band:0:2:flip"}), 1, "differ")
    assert oracle.tree(store.path) == {}


def sites_of(scene, out, tmp_path, *options):
    """How often each call is made, on rank 0 alone."""
    listing = tmp_path / "calls"
    ok(scene.weld(out, *options, env={"SHARDWELD_FAULT_LIST": str(listing)}))
    return Counter(line.split()[0] for line in listing.read_text().splitlines())


KILLED_AT = ("mkdir", "open", "create", "write", "fsync", "close", "unlink", "rmdir", "pread", "rename")


def steps(counts):
    """Each of these calls; of many a few."""
    for site in KILLED_AT:
        n = counts[site]
        for nth in range(1, n + 1) if n <= 6 else sorted({1, 2, n // 3, n // 2, n - 1, n}):
            yield f"{site}:0:{nth}:kill"


@pytest.mark.parametrize("options", [[], ["--single-file"], ["--staging-dir"]])
def test_killed_at_each_step(scene, store, tmp_path, options):
    """Over an old checkpoint: old and whole, new and whole, or no index (but for an empty one, if the store cannot rename); and the
    next run needs no --overwrite to clean up, unless the old one is there still."""
    lone, staging = "--single-file" in options, "--staging-dir" in options
    options = ["--staging-dir", tmp_path / "staging"] if staging else options
    out = store.mount(*(["rename"] if lone else [])) / "out"
    want = scene.lone if lone else scene.trees["new"]
    ok(scene.weld(out, which="old"))
    counts = sites_of(scene, out, tmp_path, "--overwrite", *options)
    killed, none, again = 0, 0, 0
    for spec in steps(counts):
        ok(scene.weld(out, "--overwrite", which="old"))
        result = scene.weld(out, "--overwrite", *options, env={"SHARDWELD_FAULT": spec})
        if result.status == 0:
            continue  # one call less than the run that was counted
        assert result.status == -signal.SIGKILL, (spec, show(result))
        killed += 1
        old = scene.holds_visibly(out, "old")
        keys = {name for name in (INDEX, oracle.SINGLE) if (out / name).exists() and (out / name).stat().st_size}
        assert old or not keys or oracle.difference(scene.visible(out), want) == "", (spec, sorted(oracle.tree(out)))
        none += not keys
        result = scene.weld(out, *options)
        if result.status == 2:
            again += 1
            assert old or not (out / ".shardweld-staging").exists(), (spec, show(result))
            result = scene.weld(out, "--overwrite", *options)
        assert result.status == 0 and oracle.difference(oracle.tree(out), want) == "", (spec, show(result), sorted(oracle.tree(out)))
        assert not (tmp_path / "staging").exists() or not os.listdir(tmp_path / "staging"), spec
    assert killed > 40 and none > 5, (killed, none, again)


@pytest.mark.parametrize("np", [None, 3])
def test_the_store_dies_too(scene, store, np):
    """What was written and not closed is lost with it."""
    out = store.mount() / "out"
    process = start(scene.args(out), np=np, env={"SHARDWELD_FAULT": "pread:0:9:stop"})
    wait_for((out / MODEL_1).exists)
    time.sleep(0.2)
    store.die()
    resume(process)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    store.mount()
    assert not (out / INDEX).exists()
    ok(scene.weld(out, np=np))
    assert scene.holds(out)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(scene, store, sig):
    out = store.mount() / "out"
    process = start(scene.args(out), env={"SHARDWELD_FAULT": "pread:0:5:stop"})
    wait_for((out / MODEL_1).exists)
    os.kill(process.pid, sig)
    resume(process)
    assert finish(process).status == -sig
    assert oracle.tree(store.path) == {}


def test_one_run_at_a_time(scene, store):
    """The second is refused while the first is at work, whichever way it would write; a dead one's place is taken at once."""
    out = store.mount() / "out"
    process = start(scene.args(out), env={"SHARDWELD_FAULT": "pread:0:1:stop"})
    wait_for(lambda: (out / ".shardweld-staging" / "journal").exists())
    time.sleep(0.3)
    fails(scene.weld(out), 2, "another run works on this directory", f"pid {process.pid}")
    fails(scene.weld(out, np=2), 2, "another run works on this directory")
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    begun = time.monotonic()
    ok(scene.weld(out))
    assert time.monotonic() - begun < 20 and scene.holds(out)


def test_streams_and_renames_keep_one_another_out(scene, tmp_path):
    out = tmp_path / "out"
    for first, second in (("stream", "random"), ("random", "stream")):
        process = start(scene.args(out, "--store", first, "--overwrite"), env={"SHARDWELD_FAULT": "pread:0:1:stop"})
        wait_for(lambda: (out / ".shardweld-staging" / "lock").exists() and (out / ".shardweld-staging" / "lock").stat().st_size > 0)
        time.sleep(0.3)
        fails(scene.weld(out, "--store", second), 2, "another run works on this directory")
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        ok(scene.weld(out, "--store", second, "--overwrite"))
        assert scene.holds(out)


# ---- staging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_staging(scene, store, tmp_path, np, assign):
    out, staging = store.mount() / "out", tmp_path / "deep" / "staging"
    ok(scene.weld(out, "--staging-dir", staging, "--assign", assign, "--verify", np=np))
    assert scene.holds(out) and not (tmp_path / "deep").exists()


def test_staging_is_told_of_as_it_goes_on(scene, store, tmp_path):
    out = store.mount() / "out"
    result = scene.weld(out, "--staging-dir", tmp_path / "staging", "--progress", "always", "-v")
    assert result.status == 0 and "done" in result.stderr and ", copy 0." in result.stderr, show(result)


def test_staging_for_a_plain_disk(scene, tmp_path):
    """All promises: the copies are renamed in."""
    out = tmp_path / "out"
    ok(scene.weld(out, which="old"))
    fails(scene.weld(out, "--overwrite", "--staging-dir", tmp_path / "s", env={"SHARDWELD_FAULT": "create:0:5"}), 4)
    assert scene.holds(out, "old")
    ok(scene.weld(out, "--overwrite", "--staging-dir", tmp_path / "s", np=2))
    assert scene.holds(out) and not (tmp_path / "s").exists()


def test_no_place_to_stage(scene, store, tmp_path):
    """One that only takes a stream, one that is no directory, one without room."""
    mnt = store.mount()
    fails(scene.weld(tmp_path / "out", "--staging-dir", mnt / "s"), 2, "no place to stage")
    (tmp_path / "file").write_text("")
    fails(scene.weld(tmp_path / "out", "--staging-dir", tmp_path / "file"), 4)
    assert oracle.tree(mnt) == {} and not (tmp_path / "out").exists()


def test_no_room_to_stage(scene, tmp_path):
    """Looked at before the first byte, there and here."""
    small = tmp_path / "small"
    small.mkdir()
    assert os.system(f"mount -t tmpfs -o size={scene.size // 2} none {small}") == 0
    try:
        fails(scene.weld(tmp_path / "out", "--staging-dir", small), 4, "no space", str(small))
        fails(scene.weld(small / "out", "--staging-dir", tmp_path / "s"), 4, "no space", str(small / "out"))
        assert os.listdir(small) == []
    finally:
        assert os.system(f"umount {small}") == 0


# ---- the other commands -------------------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("staged", [False, True])
def test_reshard(scene, store, tmp_path, np, staged):
    plain, out = tmp_path / "plain", store.mount() / "out"
    ok(run(["reshard", "--ranks", "4", scene.inputs["new"], plain]))
    more = ["--staging-dir", tmp_path / "s"] if staged else []
    ok(run(["reshard", "--ranks", "4", *more, scene.inputs["new"], out], np=np))
    assert oracle.difference(oracle.tree(out), oracle.tree(plain)) == ""
    ok(run(["reshard", "--ranks", "3", "--overwrite", *more, scene.inputs["new"], out], np=np))
    ok(run(["reshard", "--ranks", "3", "--overwrite", scene.inputs["new"], plain]))
    assert oracle.difference(oracle.tree(out), oracle.tree(plain)) == ""


@pytest.mark.parametrize("np", [1, 3])
@pytest.mark.parametrize("what", ["consolidated", "shards"])
@pytest.mark.parametrize("staged", [False, True])
def test_saved_from_memory(store, tmp_path, np, what, staged):
    rng = numpy_of(np)
    tensors = {f"t{i}": oracle.random_tensor(rng, "F32", (60 + i, 30)) for i in range(5)}
    boxes = {n: oracle.boxes_of(t.shape, [np], [0]) for n, t in tensors.items()}
    spec = saving.describe(str(tmp_path / "memory"), tensors, boxes, rng)
    plain, out = tmp_path / "plain", store.mount() / "out"
    more = [f"staging_dir={tmp_path / 's'}"] if staged else []
    for target, options in ((plain, []), (out, more)):
        saving.saved(saving.save(what, spec, target, *options, np=np))
    assert oracle.difference(oracle.tree(out), oracle.tree(plain)) == ""


def numpy_of(seed):
    return np.random.default_rng(seed)


def test_the_program_is_a_build_with_faults(scene, tmp_path):
    """Drills against a program that ignores them would all pass."""
    listing = tmp_path / "list"
    ok(scene.weld(tmp_path / "out", env={"SHARDWELD_FAULT_LIST": str(listing)}))
    assert listing.exists(), f"{SHARDWELD} is no build with SW_FAULTS"
