"""What somebody has put where this program will look is not believed, followed, waited for, written to or removed: section 6."""

import os
import subprocess

import oracle
import pytest
from oracle import INDEX
from runner import ROOT, fails, finish, ok, start
from test_safe import same, told

# ---- --overwrite ------------------------------------------------------------------------------------


def test_overwrite_removes_only_weights_whatever_the_old_index_names(dirs, make, weld):
    src, out = dirs
    ckpt = make(src)
    stay = {".git/config": b"g", "train.py": b"t", "x.bin": b"x", "sub/optimizer.pt": b"o", "shard-x.safetensors": b"s"}
    for name, data in {**stay, "sub/w.safetensors": b"w"}.items():
        oracle.write(str(out / name), data)
    oracle.write_json(str(out / INDEX), {"weight_map": {n: n for n in [*stay, "sub/w.safetensors"]}})
    told(weld(src, out, "--overwrite"), out, False)
    same(out, {**ckpt.expect(), **stay})


# ---- the report -------------------------------------------------------------------------------------


def test_the_reports_first_file_is_nobody_elses(dirs, make, tmp_path):
    """Links under the name that it is written under first are neither followed nor emptied."""
    src, out = dirs
    make(src)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    script = f'for i in "" -0 -1; do ln -s {precious} {tmp_path}/.shardweld-$$$i; done; exec "$@"'
    ok(finish(start(["consolidate", "--report", tmp_path / "r.json", src, out], prefix=["sh", "-c", script, "sh"])))
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "r.json").read_bytes().startswith(b"{")


def test_a_report_into_a_pipe_that_nobody_reads(dirs, make, tmp_path):
    src, out = dirs
    make(src)
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
