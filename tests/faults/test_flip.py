"""A bit that changes between the shards and the disk: consolidate --verify notices, and publishes nothing."""

import pytest
from conftest import next_run
from runner import errors, fails, run, show


def flip(rank, nth):
    return {"SHARDWELD_FAULT": f"band:{rank}:{nth}:flip"}


@pytest.mark.parametrize("np,rank", [(None, 0), (3, 0), (3, 2)])
@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_a_flipped_bit(scenes, tmp_path, np, rank, nth, assign):
    scene = scenes[1]
    out = scene.put_old(tmp_path / "out")
    args = [*scene.args(out, "8KiB"), "--assign", assign]
    message = fails(run([*args, "--verify"], np=np, env=flip(rank, nth)), 1, "model-00001-of-00001.safetensors")
    assert "expected" in message or "header" in message, message
    now = scene.look(out)
    assert now.old and not now.staged and now.bystander, str(now)
    # Without a look nobody knows; verify finds it afterwards.
    assert run(args, np=np, env=flip(rank, nth)).status == 0
    assert not scene.look(out).new
    result = run(["verify", scene.inputs["new"], out], np=np)
    assert result.status == 1 and len(result.stdout.splitlines()) == 1, show(result)
    assert next_run(scene, out) == ""


def test_several_at_once(scenes, tmp_path):
    """The first is the error, the others are warnings."""
    scene = scenes[2]
    out = scene.put_old(tmp_path / "out")
    result = run([*scene.args(out, "8KiB"), "--verify"], np=2, env={"SHARDWELD_FAULT": "band:-1:2+:flip"})
    assert result.status == 1, show(result)
    assert "more finding" in errors(result)[0], show(result)
    assert "warning: model-0000" in result.stderr, show(result)
    assert scene.look(out).old


@pytest.mark.parametrize("site", ["pread", "open_shard"])
@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("assign", ["band", "owner"])
def test_verify_that_cannot_read(scenes, tmp_path, site, rank, assign):
    """One rank fails: all end, with one message. (A file that cannot be opened for a hint is opened again.)"""
    scene = scenes[2]
    out = scene.put_old(tmp_path / "out")
    args = ["verify", "--assign", assign, "--buffer-size", "8KiB", scene.inputs["old"], out]
    for nth in ("1+", "3+", "6"):
        result = run(args, np=3, env={"SHARDWELD_FAULT": f"{site}:{rank}:{nth}"}, timeout=40)
        assert (result.status, len(errors(result))) in ((4, 1), (0, 0)), show(result)
        # The files are so small that each is looked at by one rank: the second and the third.
        assert result.status == 4 or nth != "1+" or site != "pread" or (assign, rank) == ("band", 0), show(result)
