"""What a run may touch, and what is there after one that failed, was killed, or met another: section 6."""

import fcntl
import os
import platform
import signal
import time
from contextlib import suppress

import oracle
import pytest
from oracle import INDEX, SINGLE, model_name, same, shard_name
from runner import errors, fails, family, finish, ok, run, show, start, stop, unprivileged, warnings
from test_layout import NAMES

STAGING = ".shardweld-staging"


def snapshot(directory):
    """Names, bytes, inodes and times: nothing may have been touched, not even rewritten."""
    out = {}
    for base, dirs, names in os.walk(directory):
        for name in [*names, *dirs]:
            path = os.path.join(base, name)
            s = os.lstat(path)
            data = None
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    data = f.read()
            out[os.path.relpath(path, directory)] = (s.st_ino, s.st_mode, s.st_mtime_ns if data is not None else 0, data)
    return out


def wait_for(what, seconds=30, every=0.002):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(every)
    return False


# ---- --overwrite ----------------------------------------------------------------------------------


OLD = [SINGLE, model_name(1, 2), model_name(7, 9), "model-a-of-b.safetensors", INDEX, "diffusion_pytorch_model.safetensors",
       "diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json"]  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_an_old_checkpoint_is_not_replaced_unasked(sharded, weld, name):
    _, src, out = sharded
    oracle.write(str(out / name), b"{}")
    before = snapshot(out)
    fails(weld(src, out, np=2 if name == SINGLE else None), 2, "--overwrite")
    assert snapshot(out) == before


def told(result, out, shards):
    """Done; shards that stay beside what was welded are warned of."""
    ok(result, quiet=not shards)
    if shards:
        assert warnings(result) == [f"shardweld: warning: {out} holds shard files: transformers 5 goes on loading them until they are removed"], show(result)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.safetensors.bak", "shard-x.safetensors", "adapter_model.safetensors",
                                  shard_name(1), "pytorch_model.bin"])  # fmt: skip
def test_other_files_are_no_checkpoint_and_stay(sharded, weld, name):
    ckpt, src, out = sharded
    oracle.write(str(out / name), b"mine")
    told(weld(src, out), out, name == shard_name(1))
    same(out, {**ckpt.expect(), name: b"mine"})
    told(weld(src, out, "--overwrite", "--single-file"), out, name == shard_name(1))
    same(out, {**ckpt.expect({n: SINGLE for n in ckpt.tensors}, None), name: b"mine"})


def test_overwrite_removes_exactly_the_old_checkpoint(sharded, weld):
    ckpt, src, out = sharded
    for name in OLD:
        oracle.write(str(out / name), b"{}")
    oracle.write_json(str(out / INDEX), {"weight_map": {"a": "part/x.safetensors", "b": "y.safetensors", "c": "gone.safetensors"}})
    stay = {"config.json": b"c", shard_name(1): b"s", "part/other.safetensors": b"o", "z.safetensors": b"z"}
    for name, data in {**stay, "part/x.safetensors": b"x", "y.safetensors": b"y"}.items():
        oracle.write(str(out / name), data)
    told(weld(src, out, "--overwrite", np=2), out, True)
    same(out, {**ckpt.expect(), **stay})


@pytest.mark.parametrize("name", ["../outside.safetensors", "{out}/../outside.safetensors", "link/outside.safetensors"])
def test_overwrite_removes_nothing_outside(sharded, weld, name):
    """Whatever the old index names."""
    ckpt, src, out = sharded
    oracle.write_json(str(out / INDEX), {"weight_map": {"a": name.format(out=out)}})
    oracle.write(str(out.parent / "outside.safetensors"), b"outside")
    (out / "link").symlink_to(out.parent)
    ok(weld(src, out, "--overwrite"))
    assert (out.parent / "outside.safetensors").read_bytes() == b"outside"
    (out / "link").unlink()
    same(out, ckpt.expect())


def test_overwrite_never_takes_the_inputs_files(dirs, weld, rng):
    """INPUT_DIR inside OUTPUT_DIR, with files that the old index names."""
    _, out = dirs
    tensors = {"a": oracle.random_tensor(rng, "U8", (5,))}
    src = out / "plain"
    oracle.write_plain(str(src), tensors, {"a": model_name(1, 1)}, None)
    oracle.write_json(str(out / INDEX), {"weight_map": {"a": f"plain/{model_name(1, 1)}"}})
    ok(weld(src, out, "--overwrite"))
    want = oracle.consolidated(tensors, {"a": model_name(1, 1)})
    same(out, {**want, f"plain/{model_name(1, 1)}": want[model_name(1, 1)]})


@pytest.mark.parametrize("options", [[], ["--single-file"], ["--max-shard-size", "100"]])
def test_one_layout_replaces_another(dirs, make, weld, options):
    src, out = dirs
    ckpt = make(src, models={n: 1 + i % 3 for i, n in enumerate(NAMES)})
    for first in ([], ["--single-file"], ["--max-shard-size", "60"]):
        ok(weld(src, out, "--overwrite", *first))
        ok(weld(src, out, "--overwrite", *options))
        files, index = oracle.numbered(ckpt.models), INDEX
        if options:
            files, index = ({n: SINGLE for n in ckpt.tensors}, None) if len(options) == 1 else oracle.by_size(ckpt.tensors, 100)
        same(out, ckpt.expect(files, index))


def test_an_old_file_that_someone_reads_stays_whole_for_him(dirs, make, weld, rng):
    """Files are replaced by rename, never truncated in place."""
    src, out = dirs
    old = make(src, tensors={"a": oracle.random_tensor(rng, "U8", (5000,))})
    ok(weld(src, out))
    with open(out / model_name(1, 1), "rb") as f:
        make(src.parent / "in2", tensors={"a": oracle.random_tensor(rng, "U8", (3,))})
        ok(weld(src.parent / "in2", out, "--overwrite"))
        assert f.read() == old.expect()[model_name(1, 1)]


def test_hard_links_and_links_of_old_files_are_not_written_through(sharded, weld):
    ckpt, src, out = sharded
    keep = out.parent / "keep"
    oracle.write(str(keep), b"precious")
    out.mkdir()
    os.link(keep, out / model_name(1, 1))
    (out / INDEX).symlink_to(keep)
    ok(weld(src, out, "--overwrite", np=2))
    same(out, ckpt.expect())
    assert keep.read_bytes() == b"precious" and not (out / INDEX).is_symlink()


def test_an_old_file_that_is_a_directory(sharded, weld):
    _, src, out = sharded
    oracle.write(str(out / model_name(1, 1) / "x"), b"x")
    result = weld(src, out, "--overwrite")
    assert result.status in (0, 2, 3, 4) and len(errors(result)) == (result.status != 0), show(result)
    assert not (out / STAGING).exists()
    if result.status:
        assert (out / model_name(1, 1) / "x").read_bytes() == b"x"


def test_names_of_like_do_not_lead_out_through_links(sharded, weld, tmp_path):
    """A sub-directory of OUTPUT_DIR that is a link elsewhere: nothing is written outside, or the link is what the user made it."""
    ckpt, src, out = sharded
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    oracle.write_json(str(tmp_path / "l.index.json"), {"weight_map": {n: "sub/x.safetensors" for n in ckpt.tensors}})
    result = weld(src, out, "--like", tmp_path / "l.index.json")
    assert result.status in (0, 2, 3, 4), show(result)
    assert not (out / STAGING).exists()
    if result.status == 0:
        assert (out / "sub" / "x.safetensors").read_bytes() == ckpt.expect({n: "x" for n in ckpt.tensors}, None)["x"]
    else:
        assert len(errors(result)) == 1 and os.listdir(tmp_path / "elsewhere") == []


# ---- nothing is left ------------------------------------------------------------------------------


def test_nothing_is_left_after_success(dirs, make, weld):
    src, out = dirs
    ckpt = make(src, models={n: 1 + i % 3 for i, n in enumerate(NAMES)})
    ok(weld(src, out, np=3))
    assert sorted(p.name for p in out.iterdir()) == sorted(ckpt.expect())
    assert sorted(p.name for p in out.parent.iterdir()) == ["in", "out"]


def test_an_error_leaves_the_old_checkpoint_untouched(sharded, weld):
    _, src, out = sharded
    ok(weld(src, out))
    before = snapshot(out)
    (src / shard_name(1)).unlink()
    fails(weld(src, out, "--overwrite", np=2), 3)
    assert snapshot(out) == before


def test_no_space(dirs, make, weld, rng):
    """More than the file system has, by a header that promises it: noticed before the first byte."""
    src, out = dirs
    space = os.statvfs(src)
    size = (space.f_blocks * space.f_frsize // (1 << 20) + 1024) << 20  # whatever others remove meanwhile
    if size > 15 << 40:
        pytest.skip("the file system is too large for a sparse file of its size")
    out.mkdir()
    head = oracle.header([("a", "U8", (size,), size)], oracle.shard_metadata({"a": (0,)}))
    with open(src / shard_name(1), "wb") as f:
        f.write(head)
        f.truncate(len(head) + size)
    fails(weld(src, out, np=2, timeout=60), 4, "space")
    assert os.listdir(out) == []


def test_a_directory_that_may_not_be_written(sharded, weld, tmp_path):
    _, src, _ = sharded
    outer, out = unprivileged(tmp_path)
    (out / "shut").mkdir()
    (out / "shut").chmod(0o555)
    for np, place in ((2, out / "shut"), (None, out / "shut" / "deeper")):
        fails(weld(src, place, np=np, outer=outer), 4, "permission denied")
        fails(run(["reshard", "--ranks=2", src, place], np=np, outer=outer), 4, "permission denied")
    assert os.listdir(out / "shut") == []


# ---- modes and groups -----------------------------------------------------------------------------


@pytest.mark.parametrize("umask,mode,directory,np", [(0o002, 0o664, 0o775, None), (0o077, 0o600, 0o700, 2)])
def test_modes_follow_the_umask(sharded, weld, tmp_path, umask, mode, directory, np):
    ckpt, src, out = sharded
    oracle.write_json(str(tmp_path / "l.index.json"), {"weight_map": {n: "sub/x.safetensors" for n in ckpt.tensors}})
    result = weld(src, out / "deep", "--like", tmp_path / "l.index.json", np=np, prefix=["sh", "-c", f'umask {umask:03o}; exec "$0" "$@"'])
    ok(result)
    for path in (out, out / "deep", out / "deep" / "sub"):
        assert path.stat().st_mode & 0o7777 == directory, path
    for path in (out / "deep" / "sub" / "x.safetensors", out / "deep" / "l.index.json"):
        assert path.stat().st_mode & 0o7777 == mode, path


def test_the_group_is_inherited_from_a_setgid_directory(sharded, weld, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory to another group")
    ckpt, src, out = sharded
    oracle.write_json(str(tmp_path / "l.index.json"), {"weight_map": {n: "sub/x.safetensors" for n in ckpt.tensors}})
    out.mkdir()
    os.chown(out, -1, 12345)
    out.chmod(0o2775)
    ok(weld(src, out, "--like", tmp_path / "l.index.json", np=2))
    for path in (out / "sub", out / "sub" / "x.safetensors", out / "l.index.json"):
        assert path.stat().st_gid == 12345, path
    assert out.stat().st_mode & 0o7777 == 0o2775


# ---- kills, signals, two runs ---------------------------------------------------------------------


def make_slow(dirs, make, rng, rows):
    """Little data, but two bytes at a time: with a buffer of 4 KiB a run takes a second or more."""
    src, out = dirs
    tensors = {"a": oracle.random_tensor(rng, "U8", (rows, 64)), "b": oracle.random_tensor(rng, "F32", (7,))}
    boxes = {"a": oracle.boxes_of((rows, 64), (32,), (1,)), "b": [oracle.whole((7,))]}
    return make(src, tensors=tensors, boxes=boxes), src, out


@pytest.fixture
def slow_input(dirs, make, rng):
    return make_slow(dirs, make, rng, 400_000)


@pytest.fixture
def slower_input(dirs, make, rng):
    return make_slow(dirs, make, rng, 1_200_000)


def staged(out):
    """True once a file of some size is being written in the staging directory."""
    new = out / STAGING / "new"
    try:
        return any(p.stat().st_size for p in new.rglob("*.safetensors"))
    except OSError:
        return False


def slow(src, out, *options, np=None):
    """A run in the middle of its work; the launcher gives its ranks a second to end, as it does by default."""
    args = ["consolidate", "--buffer-size", "4KiB", "--no-sync", *options, src, out]
    process = start(args, np=np, env={"OMPI_MCA_odls_base_sigkill_timeout": "1"})
    assert wait_for(lambda: staged(out) or process.poll() is not None)
    if process.poll() is not None:
        pytest.skip(f"the run was over before it could be met: {show(finish(process))}")
    return process


def is_alive(pid):
    """Neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("np", [None, 2])
def test_a_killed_run_leaves_only_staging_and_the_next_removes_it(slow_input, weld, np):
    ckpt, src, out = slow_input
    oracle.write(str(out / SINGLE), b"old")
    process = slow(src, out, "--overwrite", np=np)
    pids = family(process.pid)[::-1]  # the launcher last
    for pid in pids:
        with suppress(ProcessLookupError):  # the launcher has seen another's end before its own
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert wait_for(lambda: not any(map(is_alive, pids)))
    assert sorted(p.name for p in out.iterdir()) == [STAGING, SINGLE]
    assert (out / SINGLE).read_bytes() == b"old"
    # A process that was killed is a zombie before its last thread has let go of the lock.
    assert wait_for(lambda: "another run works" not in weld(src, out).stderr)
    fails(weld(src, out), 2, "--overwrite")
    ok(weld(src, out, "--overwrite", np=np))
    same(out, ckpt.expect())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_lone_run_cleanly(slow_input, weld, sig):
    ckpt, src, out = slow_input
    oracle.write(str(out / SINGLE), b"old")
    process = slow(src, out, "--overwrite")
    process.send_signal(sig)
    result = finish(process, timeout=20)
    assert result.status == -sig, show(result)
    same(out, {SINGLE: b"old"})
    ok(weld(src, out, "--overwrite"))
    same(out, ckpt.expect())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_under_the_launcher(slower_input, weld, sig):
    """Open MPI waits a second before it hands the signal on; a run that is done by then is done."""
    ckpt, src, out = slower_input
    oracle.write(str(out / SINGLE), b"old")
    process = slow(src, out, "--overwrite", np=2)
    process.send_signal(sig)
    result = finish(process, timeout=30)
    assert result.status != 0, show(result)
    if (out / INDEX).exists():
        same(out, ckpt.expect())
    else:
        assert (out / SINGLE).read_bytes() == b"old"
        assert {p.name for p in out.iterdir()} <= {SINGLE, STAGING}
    ok(weld(src, out, "--overwrite", np=2))
    same(out, ckpt.expect())


def test_one_rank_is_killed(slow_input, weld):
    """The launcher ends the others; the next run succeeds."""
    ckpt, src, out = slow_input
    process = slow(src, out, np=2)
    ranks = [p for p in family(process.pid) if "shardweld" in command_of(p).split("\0")[0]]
    assert len(ranks) == 2, [command_of(p) for p in family(process.pid)]
    os.kill(ranks[1], signal.SIGKILL)
    result = finish(process, timeout=30)
    assert result.status != 0, show(result)
    assert {p.name for p in out.iterdir()} <= {STAGING}
    ok(weld(src, out, np=2))
    same(out, ckpt.expect())


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as f:
            return f.read()
    except OSError:
        return ""


def test_two_runs_on_one_directory(slow_input, weld):
    ckpt, src, out = slow_input
    process = slow(src, out)
    process.send_signal(signal.SIGSTOP)  # so that it cannot be over too soon
    message = fails(weld(src, out, "--overwrite", np=2), 2, str(process.pid), os.uname().nodename)
    assert "run" in message
    process.send_signal(signal.SIGCONT)
    ok(finish(process))
    same(out, ckpt.expect())


def test_two_runs_on_two_directories(slow_input, weld):
    ckpt, src, out = slow_input
    process = slow(src, out)
    ok(weld(src, out.parent / "out2"))
    ok(finish(process))
    same(out, ckpt.expect())
    same(out.parent / "out2", ckpt.expect())


def test_staging_of_a_dead_run_with_anything_in_it(sharded, weld):
    """Also with a directory, a link out of it, and files of another kind."""
    ckpt, src, out = sharded
    precious = out.parent / "precious"
    oracle.write(str(precious / "x"), b"x")
    for name in ("new/model-00001-of-00009.safetensors", "new/deep/er/y", "old/z", "lock", "what"):
        oracle.write(str(out / STAGING / name), b"left")
    (out / STAGING / "new" / "link").symlink_to(precious)
    past = time.time() - 3600
    for base, _, names in os.walk(out / STAGING):
        for name in [base, *(os.path.join(base, n) for n in names)]:
            os.utime(name, (past, past), follow_symlinks=False)
    ok(weld(src, out, np=2))
    same(out, ckpt.expect())
    assert (precious / "x").read_bytes() == b"x"


def test_staging_that_is_a_link(sharded, weld, tmp_path):
    """Whatever it decides, nothing behind the link goes."""
    _, src, out = sharded
    oracle.write(str(tmp_path / "precious" / "x"), b"x")
    out.mkdir()
    (out / STAGING).symlink_to(tmp_path / "precious")
    result = weld(src, out)
    assert result.status in (0, 2, 4), show(result)
    assert (tmp_path / "precious" / "x").read_bytes() == b"x"
    assert os.listdir(tmp_path / "precious") == ["x"]


def test_the_lock_is_a_real_one(slow_input):
    """Who looks at the lock of a live run finds it held."""
    _, src, out = slow_input
    process = slow(src, out)
    held = False
    with open(out / STAGING / "lock", "rb+") as f:
        for lock in (fcntl.flock, fcntl.lockf):
            try:
                lock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held = True
    stop(process)
    assert held


# ---- one directory for all ranks --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "another"])
@pytest.mark.parametrize("args", [["consolidate"], ["reshard", "--ranks", "2"]], ids=["consolidate", "reshard"])
def test_output_dir_is_not_the_same_on_all_nodes(tmp_path, make, args, kind):
    """A relative name in directories of their own looks to the ranks as a local disk does on two nodes. It is found before any work."""
    make(tmp_path / "in")
    for r in range(3):
        (tmp_path / str(r)).mkdir()
    (tmp_path / "1").rmdir()
    (tmp_path / "1").symlink_to("0")  # by another way, but the same
    if kind == "another":
        for path in (tmp_path / "2" / "out" / STAGING, tmp_path / "2" / ".out.shardweld-new" / STAGING):
            (path / "new").mkdir(parents=True)
            (path / "lock").write_text("host elsewhere\n")
    elsewhere = ["sh", "-c", 'cd "$0/${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" && exec "$@"', str(tmp_path)]
    before = snapshot(tmp_path / "2")
    result = run([*args, tmp_path / "in", "out"], np=3, prefix=elsewhere)
    host = platform.node()
    fails(result, 2, f"out: is not the same directory for rank 0 on {host} and rank 2 on {host}", f"(rank 2 on {host})")
    assert os.listdir(tmp_path / "0") == [] and snapshot(tmp_path / "2") == before
