"""What somebody has put where this program will look is not believed, followed, waited for, written to or removed: section 6."""

import os
import signal
import subprocess
import time

import oracle
import pytest
from oracle import INDEX
from runner import ROOT, fails, finish, ok, run, show, start, unprivileged
from test_safe import STAGING, same, snapshot, told, wait_for

# ---- --overwrite ------------------------------------------------------------------------------------


def test_overwrite_removes_only_weights_whatever_the_old_index_names(sharded, weld):
    ckpt, src, out = sharded
    stay = {".git/config": b"g", "train.py": b"t", "x.bin": b"x", "sub/optimizer.pt": b"o", "shard-x.safetensors": b"s"}
    for name, data in {**stay, "sub/w.safetensors": b"w"}.items():
        oracle.write(str(out / name), data)
    oracle.write_json(str(out / INDEX), {"weight_map": {n: n for n in [*stay, "sub/w.safetensors"]}})
    told(weld(src, out, "--overwrite"), out, False)
    same(out, {**ckpt.expect(), **stay})


# ---- staging ----------------------------------------------------------------------------------------


def old_journal(new, old=()):
    """As versions before wrote it: bound to nothing."""
    text = "shardweld journal 1\nfingerprint 0000000000000001\nclash 0\n"
    text += "".join(f"new {size} {len(n)}:{n}\n" for n, size in new) + "".join(f"old {len(n)}:{n}\n" for n in old)
    return text


def plant(staging, text, files=()):
    for name in files:
        oracle.write(str(staging / "new" / name), b"evil\n")
    oracle.write(str(staging / "journal"), text.encode())


@pytest.mark.parametrize("command, np", [(["consolidate"], 3), (["reshard", "--ranks", "2"], None)], ids=str)
def test_a_planted_journal(sharded, tmp_path, command, np):
    """With a link out of OUTPUT_DIR, as it comes with a clone or an archive."""
    _, src, out = sharded
    home = tmp_path / "home"
    for name in (".bashrc", ".ssh/id_rsa"):
        oracle.write(str(home / name), b"mine")
    oracle.write(str(out / ".git" / "config"), b"mine")
    (out / "x").symlink_to("../home")
    plant(out / STAGING, old_journal([("x/.bashrc", 5), ("m.safetensors", 5)], ["x/.ssh/id_rsa", ".git/config"]), ["x/.bashrc", "m.safetensors"])
    before = snapshot(home), snapshot(out / STAGING / "new"), (out / STAGING / "journal").read_bytes()
    fails(run([*command, src, out], np=np), 4, "journal is not obeyed", "move or remove it", STAGING)
    assert before == (snapshot(home), snapshot(out / STAGING / "new"), (out / STAGING / "journal").read_bytes())
    assert (out / ".git" / "config").read_bytes() == b"mine" and not (out / "m.safetensors").exists()


@pytest.mark.parametrize("what", ["journal", "directory", "link"])
def test_planted_beside_an_output_dir_that_is_not_there_yet(sharded, make, tmp_path, what):
    _, src, out = sharded
    beside = tmp_path / ".out.shardweld-new"
    (tmp_path / "precious").mkdir()
    oracle.write(str(tmp_path / "precious" / STAGING / "new" / "x"), b"mine")
    if what == "link":
        beside.symlink_to("precious")
    else:
        plant(beside / STAGING, old_journal([("a.safetensors", 5)]), ["a.safetensors"])
        if what == "directory":
            if os.geteuid():
                pytest.skip("only root can make it")
            os.chown(beside, 65534, 65534)
    before = snapshot(tmp_path / "precious")
    says = {"journal": "not obeyed", "directory": "belongs to user 65534", "link": "move or remove it"}
    fails(run(["reshard", "--ranks", "2", src, out]), 4, says[what], ".out.shardweld-new")
    assert snapshot(tmp_path / "precious") == before and not out.exists()
    assert what == "link" or (beside / STAGING / "new" / "a.safetensors").exists()


def test_a_lock_with_a_second_name_is_not_written_into(sharded, weld, tmp_path):
    _, src, out = sharded
    oracle.write(str(tmp_path / "precious"), b"mine")
    (out / STAGING).mkdir(parents=True)
    os.link(tmp_path / "precious", out / STAGING / "lock")
    fails(weld(src, out), 4, "hard links", "lock", "move or remove it")
    assert (tmp_path / "precious").read_bytes() == b"mine" and (out / STAGING / "lock").exists()


def test_staging_of_another_user(make, tmp_path, sharded):
    """Who is root here is nobody there: what he finds is root's, and stays."""
    ckpt, src, _ = sharded
    outer, theirs = unprivileged(tmp_path)
    if not outer:
        pytest.skip("only root can make it")
    out = theirs / "out"
    oracle.write(str(out / STAGING / "new" / "x"), b"mine")
    os.chown(out, 65534, 65534)
    fails(run(["consolidate", src, out], outer=outer), 4, "belongs to user 0, and we are user 65534")
    assert (out / STAGING / "new" / "x").read_bytes() == b"mine"
    (out / STAGING).rename(tmp_path / "away")
    ok(run(["consolidate", src, out], outer=outer))
    same(out, ckpt.expect())


@pytest.mark.parametrize("name", ["journal", "lock", "../config.json", "../" + INDEX])
def test_a_pipe_makes_nobody_wait_in_output_dir(sharded, name):
    _, src, out = sharded
    (out / STAGING).mkdir(parents=True)
    os.mkfifo(os.path.normpath(out / STAGING / name))
    oracle.write(str(src / "config.json"), b"{}")
    result = run(["consolidate", "--overwrite", src, out], timeout=30)
    # A side file replaces whatever has its name.
    assert result.status == {"../config.json": 0, "../" + INDEX: 2}.get(name, 4), show(result)
    assert result.status == 0 or name.split("/")[-1] in result.stderr, show(result)


@pytest.mark.parametrize("name, np", [(oracle.shard_name(2), 2), (INDEX, None), ("config.json", None), (".hf_metadata/fqn_to_dtype_mapping.json", 2)])
def test_a_pipe_makes_nobody_wait_in_input_dir(sharded, name, np):
    _, src, out = sharded
    (src / name).unlink(missing_ok=True)
    (src / name).parent.mkdir(exist_ok=True)
    os.mkfifo(src / name)
    for command in (["consolidate", src, out], ["inspect", src], ["verify", src, src]):
        result = run(command, np=np, timeout=30)
        assert result.status != 0 or name in (INDEX, "config.json"), show(result)


@pytest.mark.parametrize("option, np", [("--fqn-map", 2), ("--like", None)])
def test_a_signal_ends_the_wait_for_a_pipe(sharded, tmp_path, option, np):
    _, src, out = sharded
    pipe = tmp_path / "x.index.json"
    os.mkfifo(pipe)
    process = start(["consolidate", option, pipe, src, out], np=np)
    writer = os.open(pipe, os.O_RDWR)  # somebody who has it open, and writes nothing
    assert wait_for((out / STAGING).exists)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    result = finish(process, timeout=15)
    os.close(writer)
    assert result.status != 0 and (np or not out.exists()), show(result)


# ---- the report -------------------------------------------------------------------------------------


def test_the_reports_first_file_is_nobody_elses(sharded, tmp_path):
    """Links under the name that it is written under first are neither followed nor emptied."""
    _, src, out = sharded
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    script = f'for i in "" -0 -1; do ln -s {precious} {tmp_path}/.shardweld-$$$i; done; exec "$@"'
    ok(finish(start(["consolidate", "--report", tmp_path / "r.json", src, out], prefix=["sh", "-c", script, "sh"])))
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "r.json").read_bytes().startswith(b"{")


def test_a_report_into_a_pipe_that_nobody_reads(sharded, tmp_path):
    _, src, out = sharded
    os.mkfifo(tmp_path / "r.json")
    fails(finish(start(["consolidate", "--report", tmp_path / "r.json", src, out]), timeout=20), 4, "r.json")


# ---- requests of SLURM's epilog ---------------------------------------------------------------------


def leave_request(spool, **more):
    env = {"PATH": os.environ["PATH"], "SLURM_SCRIPT_CONTEXT": "epilog_slurmctld", "SLURM_JOB_COMMENT": "shardweld a b", "SLURM_JOB_ID": "7",
           "SLURM_JOB_UID": "1000", "SHARDWELD_SPOOL": str(spool), **more}  # fmt: skip
    return subprocess.run([os.path.join(ROOT, "slurm", "epilog.sh")], env=env, check=True, capture_output=True, text=True, timeout=30).stderr


@pytest.mark.parametrize("what", ["good", "open", "link", "another's", "missing"])
def test_where_a_request_is_left(tmp_path, what):
    spool, other = tmp_path / "spool", tmp_path / "other"
    for path in (spool, other):
        path.mkdir(mode=0o700)
    (other / "7").write_bytes(b"precious")
    (spool / "7").symlink_to(other / "7")
    if what == "open":
        spool.chmod(0o777)
    elif what == "another's":
        if os.geteuid():
            pytest.skip("only root can make it")
        os.chown(spool, 65534, 65534)
    elif what == "missing":
        spool = tmp_path / "none"
    elif what == "link":
        (tmp_path / "to").symlink_to(spool)
        spool = tmp_path / "to"
    message = leave_request(spool)
    assert (other / "7").read_bytes() == b"precious"
    if what == "good":
        assert message == "" and (spool / "7").read_bytes() == b"1000\0/\0shardweld a b\0"
        assert not (spool / "7").is_symlink() and os.listdir(spool) == ["7"]
    else:
        assert "mode 0700" in message
        assert what == "missing" or (spool / "7").is_symlink()
