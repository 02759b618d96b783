"""Disks that fill, that are read-only, that not every rank sees, and files that change or may not be read."""

import os
import shutil
import signal
import subprocess

import pytest
from conftest import TRANSPORTS, Scene, may, next_run, transport
from runner import fails, finish, run, start, warnings
from test_kill import at, wait_stopped

PAGE = 4096


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A few MiB: several regions and rounds."""
    return Scene(tmp_path_factory.mktemp("large"), 1, rows=6000)


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(bytes): a file system of that size, empty; taken away after the test."""
    mounted = []

    def mount(size):
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        may(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "none", str(path)], "mounting a tmpfs")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=False)


def rounded(scene):
    """Bytes that the new checkpoint takes in whole pages."""
    return sum((len(data) + PAGE - 1) // PAGE * PAGE for data in scene.trees["new"].values())


# How much is missing, of the size of the new checkpoint.
SHORT = {"from the first byte on": 1.0, "between rounds": 0.5, "within a round": 0.37, "on the last bytes": 0.0}


@pytest.mark.parametrize("np, io", [(None, ""), *((np, io) for io in TRANSPORTS for np in (1, 3))])
@pytest.mark.parametrize("when", SHORT)
def test_a_disk_that_fills(large, small_disk, when, io, np):
    """Space is not reserved, so that the write itself meets the end, as on file systems that cannot tell before."""
    need, spare = rounded(large), 16 * PAGE
    disk = small_disk(need + spare)
    out = disk / "out"
    out.mkdir()
    (out / "README.md").write_bytes(b"mine")
    missing = max(int(need * SHORT[when]) // PAGE * PAGE, PAGE)
    (disk / "filler").write_bytes(b"\0" * missing)
    free = os.statvfs(disk).f_bavail * PAGE
    (disk / "rest").write_bytes(b"\0" * (free - (need - missing)))
    env = {**transport(io), "SHARDWELD_NO_RESERVE": "1"}
    fails(run(large.args(out, buffer="256KiB"), np=np, env=env, timeout=60), 4, "no space left on device")
    now = large.look(out)
    assert not now.files and not now.staged and now.bystander, str(now)
    (disk / "filler").unlink()
    (disk / "rest").unlink()
    assert next_run(large, out, np=np) == ""


def test_a_limit_on_file_sizes_is_an_error_and_no_death(scene, out):
    """SIGXFSZ is not what ends it."""
    limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash"]
    for env in ({}, {"SHARDWELD_NO_RESERVE": "1"}):
        fails(run(scene.args(out), prefix=limited, np=2, env=env), 4, "file too large", "model-00001-of-00001")
        now = scene.look(out)
        assert now.old and not now.staged
    assert next_run(scene, out) == ""


@pytest.mark.parametrize("np", [None, 2])
def test_a_read_only_output_dir(scene, out, tmp_path, np):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    may(["mount", "--bind", str(out), str(mounted)], "a bind mount")
    try:
        may(["mount", "-o", "remount,ro,bind", str(mounted)], "a read-only bind mount")
        fails(run(scene.args(mounted), np=np), 4, "read-only file system")
        fails(run(scene.args(mounted / "below" / "it"), np=np), 4, "read-only file system")
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=False)
    now = scene.look(out)
    assert now.old and not now.staged
    assert next_run(scene, out, np=np) == ""


@pytest.mark.parametrize("np", [None, 3])
def test_what_cannot_leave_the_page_cache(scene, out, np):
    """--drop-cache waits for the disk, and may be the first to hear that it has failed."""
    for rank in range(np or 1):
        fault = {"SHARDWELD_FAULT": f"sync_range:{rank}:1:28"}
        fails(run([*scene.args(out), "--drop-cache", "--no-sync"], np=np, env=fault, timeout=40), 4, "cannot write", "no space left")
        now = scene.look(out)
        assert now.old and not now.staged, str(now)
    assert next_run(scene, out) == ""


# ---- a shard that changes under us ----------------------------------------------------------------


@pytest.mark.parametrize("np", [None, 3])
@pytest.mark.parametrize("size", [0, 1000, -1])
def test_a_shard_truncated_while_we_read(scene, out, tmp_path, np, size):
    src = tmp_path / "in"
    shutil.copytree(scene.inputs["new"], src)
    args = [*scene.args(out)[:-2], src, out]
    victim = sorted(src.iterdir())[-1]
    process = start(args, np=np, env=at("create", 0, 1, "stop"))
    pid = wait_stopped(process)
    os.truncate(victim, size if size >= 0 else victim.stat().st_size - 1)
    os.kill(pid, signal.SIGCONT)
    fails(finish(process, 40), 3, victim.name)
    now = scene.look(out)
    assert now.old and not now.staged, str(now)
    assert next_run(scene, out) == ""


# ---- a directory that one rank cannot see ---------------------------------------------------------


def hidden_from(rank, directory):
    """A wrapper: this rank has an empty file system in the place of the directory."""
    may(["unshare", "-m", "true"], "a mount namespace of one's own")
    script = (
        f'if [ "${{OMPI_COMM_WORLD_RANK:-${{PMIX_RANK:-0}}}}" = {rank} ] && [ -z "$HIDDEN" ]; then '
        'export HIDDEN=1; exec unshare -m sh -c \'mount -t tmpfs none "$1" && shift && exec "$@"\' sh "$0" "$@"; fi; exec "$@"'
    )
    return ["sh", "-c", script, str(directory)]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_input_dir_that_one_rank_cannot_see(scene, out, tmp_path, rank):
    src = tmp_path / "in"
    shutil.copytree(scene.inputs["new"], src)
    args = [*scene.args(out)[:-2], src, out]
    result = run(args, np=3, prefix=hidden_from(rank, src), timeout=40)
    message = fails(result, 3)
    assert rank == 0 or ("shard-" in message and "does not see it" in message)
    now = scene.look(out)
    assert now.old and not now.staged, str(now)
    assert next_run(scene, out) == ""


@pytest.mark.parametrize("rank", [1, 2])
def test_an_output_dir_that_one_rank_cannot_see(scene, out, rank):
    fails(run(scene.args(out), np=3, prefix=hidden_from(rank, out), timeout=40), 2, "is not the same directory")
    now = scene.look(out)
    assert now.old and not now.staged, str(now)
    assert next_run(scene, out) == ""


# ---- transports that nobody should choose ---------------------------------------------------------


AGGREGATING = {"OMPI_MCA_io": "ompio", "OMPI_MCA_fcoll": "vulcan", "OMPI_MCA_io_ompio_num_aggregators": "3"}


@pytest.mark.parametrize("np", [3, 5])
def test_an_aggregating_transport_on_request(scenes, tmp_path, np):
    """It is warned of and not followed."""
    scene = scenes[2]
    out = scene.put_old(tmp_path / "out")
    result = run(scene.args(out), np=np, env=AGGREGATING, timeout=60)
    assert result.status == 0 and scene.look(out).new and "fcoll=vulcan" in warnings(result)[0]


@pytest.mark.parametrize("np", [3, 5])
def test_a_disk_that_fills_with_an_aggregating_transport(large, small_disk, np):
    """There it loses data without a word, or hangs."""
    out = small_disk(rounded(large) // 2) / "out"
    env = {**AGGREGATING, "SHARDWELD_NO_RESERVE": "1"}
    fails(run(large.args(out, buffer="256KiB"), np=np, env=env, timeout=60), 4, "no space left on device")
    assert not large.look(out).files
