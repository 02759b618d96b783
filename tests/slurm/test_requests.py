"""epilog.sh as the site's Epilog and EpilogSlurmctld, and weld-requests.sh, which submits what was asked for."""

import os
import stat
import time

import pytest
from conftest import write


@pytest.fixture(autouse=True)
def no_requests(site):
    """Both spools empty, with the modes that they should have."""
    for spool in site.spools.values():
        os.makedirs(spool, exist_ok=True)
        os.chown(spool, 0, 0)
        os.chmod(spool, 0o700)
        for name in os.listdir(spool):
            os.unlink(f"{spool}/{name}")


def ask(site, work, user, comment, text="true", options=()):
    """A job of the user's with this comment; its number, when it has ended and its epilogs too."""
    work.give(user)
    path = write(f"{work.path}/train.sh", f"#!/bin/sh\n{text}\n", 0o755)
    told = site.run("sbatch", "--parsable", "--output=training.out", f"--comment={comment}", *options, path, cwd=work.path, user=user)
    job = told.stdout.strip()
    site.outcome(job)
    site.until(lambda: epilogs(site, job) >= 2, 30, "the epilogs")
    return job


def epilogs(site, job):
    """How many have run; each must have ended with 0."""
    with open(f"{site.root}/epilogs") as f:
        lines = [line.split() for line in f]
    assert all(status == "0" for _, status in lines), lines
    return sum(j == job for j, _ in lines)


def requests(site, spool="controller"):
    return sorted(os.listdir(site.spools[spool]))


def submit(site, spool="controller", check=True, **env):
    return site.script("weld-requests.sh", env={"SHARDWELD_SPOOL": site.spools[spool], **env}, check=check)


def forge(site, name, *fields, spool="controller"):
    path = f"{site.spools[spool]}/{name}"
    with open(path, "wb") as f:
        f.write(b"".join(str(x).encode() + b"\0" for x in fields))
    os.chmod(path, 0o600)
    return path


def welded(site, work, job, got, user):
    """The one weld that was submitted: as the user, and successful."""
    (line,) = got.stdout.splitlines()
    assert line.startswith(f"weld-requests: job {job}: submitted as job ") and line.endswith(f" for user {user.pw_uid}"), got
    new = line.split()[6]
    assert site.outcome(new) == ("COMPLETED", "0:0"), work.log(new)
    assert site.show(new)["UserId"] == f"{user.pw_name}({user.pw_uid})"
    assert {os.stat(f"{work.out}/{n}").st_uid for n in os.listdir(work.out)} == {user.pw_uid}
    work.check()
    return new


# ---- the way of a request -------------------------------------------------------------------------


@pytest.mark.parametrize("spool", ["node", "controller"])
def test_a_request_becomes_a_job_of_the_user(site, work, user, spool):
    job = ask(site, work, user, "shardweld 'my ckpt' 'welded ckpt' --expect-shards 4", options=["-N2"])
    for name in site.spools:  # two nodes, one request
        assert requests(site, name) == [job]
    path = f"{site.spools[spool]}/{job}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.stat(path).st_uid == 0
    welded(site, work, job, submit(site, spool), user)
    assert requests(site, spool) == []
    assert submit(site, spool).stdout == ""


def test_a_comment_that_comes_later(site, work, user):
    text = "scontrol update JobId=$SLURM_JOB_ID Comment=\"shardweld 'my ckpt' 'welded ckpt' --expect-shards 4\"; exit 3"
    job = ask(site, work, user, "nothing", text)
    welded(site, work, job, submit(site), user)


@pytest.mark.parametrize("comment", ["", "hello", "shardwelder a b", "not shardweld a b"])
def test_who_does_not_ask_gets_nothing(site, work, user, comment):
    ask(site, work, user, comment)
    assert requests(site) == requests(site, "node") == []


def test_the_sites_settings(site, work, user):
    job = ask(site, work, user, "shardweld 'my ckpt' 'welded ckpt' --expect-shards 4")
    new = welded(site, work, job, submit(site, SHARDWELD_RANKS="2", SHARDWELD_NODES="2", SHARDWELD_SBATCH="--time=9"), user)
    assert site.show(new)["NumNodes"] == "2" and site.show(new)["TimeLimit"] == "00:09:00"


def test_a_request_waits_for_a_job_that_is_not_over(site, work, user):
    """Requeued, say: the epilog of its first start has left a request already."""
    work.give(user)
    job = site.run("sbatch", "--parsable", "--hold", "--output=training.out", "--wrap=true", cwd=work.path, user=user).stdout.strip()
    forge(site, job, user.pw_uid, work.path, "shardweld 'my ckpt' 'welded ckpt' --expect-shards 4")
    assert submit(site).stdout == "" and requests(site) == [job]
    site.run("scontrol", "release", job)
    site.outcome(job)
    site.until(lambda: not site.run("squeue", "-h", "-j", job, check=False).stdout, 30, "the end of the job")
    welded(site, work, job, submit(site), user)


def test_a_job_that_slurm_has_forgotten(site, work, user):
    work.give(user)
    forge(site, 99999, user.pw_uid, work.path, "shardweld 'my ckpt' 'welded ckpt' --expect-shards 4")
    welded(site, work, "99999", submit(site), user)


def test_what_sbatch_refuses_is_tried_for_a_day(site, work, user):
    work.give(user)
    path = forge(site, 99999, user.pw_uid, work.path, "shardweld a b --expect-shards 4")
    got = submit(site, SHARDWELD_PARTITION="nowhere")
    assert "job 99999: not submitted yet: " in got.stdout and "partition" in got.stdout and requests(site) == ["99999"]
    yesterday = time.time() - 90000
    os.utime(path, (yesterday, yesterday))
    assert "given up after a day" in submit(site, SHARDWELD_PARTITION="nowhere").stdout and requests(site) == []


# ---- what may be wrong with a spool ----------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["missing", "a file", "full"])
def test_the_epilog_ends_with_0_and_fast(site, work, user, wrong):
    """And the node is not drained: the fixture healthy looks."""
    spools = list(site.spools.values())
    for spool in spools:
        if wrong == "full":
            site.run("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1,mode=700", "none", spool)
            continue
        os.rmdir(spool)
        if wrong == "a file":
            write(spool, "")
    try:
        ask(site, work, user, "shardweld a b")
        assert submit(site, check=False).returncode == (0 if wrong == "full" else 1)
    finally:
        for spool in spools:
            if wrong == "full":
                site.run("umount", spool)
            elif os.path.exists(spool):
                os.unlink(spool)


@pytest.mark.parametrize("context", ["epilog_slurmd", "epilog_slurmctld"])
def test_the_epilog_in_a_bare_environment(site, work, context):
    """No PATH, no job, nothing: still 0, without a word on standard output."""
    for more in ({}, {"SLURM_JOB_COMMENT": "shardweld a b"}, {"SLURM_JOB_COMMENT": "shardweld a b", "SLURM_JOB_ID": "../x", "SLURM_JOB_UID": "1"}):
        words = [f"{k}={v}" for k, v in {"SLURM_SCRIPT_CONTEXT": context, "SHARDWELD_SPOOL": site.spools["controller"], **more}.items()]
        got = site.run("env", "-i", *words, f"{site.scripts}/epilog.sh", timeout=10)
        assert got.stdout == ""
    assert requests(site) == []


@pytest.mark.parametrize("mode, owner", [(0o777, 0), (0o1777, 0), (0o720, 0), (0o740, 0), (0o700, None)], ids=str)
def test_a_spool_that_others_can_write_is_not_believed(site, work, user, mode, owner):
    work.give(user)
    forge(site, 99999, user.pw_uid, work.path, "shardweld 'my ckpt' 'welded ckpt'")
    os.chmod(site.spools["controller"], mode)
    if owner is None:
        os.chown(site.spools["controller"], user.pw_uid, user.pw_gid)
    got = submit(site, check=False)
    assert got.returncode == 1 and got.stdout == "" and "mode 0700" in got.stderr
    assert requests(site) == ["99999"]


# ---- what may be wrong with a request --------------------------------------------------------------


def refused(site, job="99999"):
    got = submit(site)
    assert got.stdout.startswith(f"weld-requests: job {job}: refused: ") and got.stdout.count("\n") == 1, got
    assert requests(site) == []


def test_a_request_of_another_owner(site, work, user):
    """Whoever could leave a file there, it is nobody's word but root's."""
    path = forge(site, 99999, user.pw_uid, work.path, "shardweld 'my ckpt' 'welded ckpt'")
    os.chown(path, user.pw_uid, user.pw_gid)
    refused(site)


def test_a_request_that_others_can_write(site, work, user):
    os.chmod(forge(site, 99999, user.pw_uid, work.path, "shardweld a b"), 0o622)
    refused(site)


def test_a_link(site, work, user):
    secret = write(f"{site.root}/secret", f"{user.pw_uid}\0{work.path}\0shardweld a b\0", 0o600)
    os.symlink(secret, f"{site.spools['controller']}/99999")
    refused(site)
    assert os.path.exists(secret)


@pytest.mark.parametrize("uid", ["0", "", "-1", "00", "1x", "4294967295", "99999999999"])
def test_nobodys_request(site, work, uid):
    forge(site, 99999, uid, work.path, "shardweld 'my ckpt' 'welded ckpt'")
    refused(site)
    assert not os.path.exists(work.out)


@pytest.mark.parametrize("fields", [(), ("1",), ("1", "/"), ("1", "/", "shardweld a b", "more")], ids=len)
def test_half_a_request(site, fields):
    forge(site, 99999, *fields)
    refused(site)


@pytest.mark.parametrize("comment", ["shardweld", "shardweld a", "shardweld 'a b", 'shardweld "a b c', "weld a b", "shardweld ''"])
def test_a_comment_without_two_directories(site, user, comment):
    forge(site, 99999, user.pw_uid, "/", comment)
    refused(site)


def test_odd_names_are_left_alone(site, user):
    for name in ("x", "1 2", "-rf", "$(id)", "1;id", ".7.8"):
        forge(site, name, user.pw_uid, "/", "shardweld a b")
    assert submit(site).stdout == "" and len(requests(site)) == 6


@pytest.mark.parametrize(
    "words", ["$(touch pwned) `touch pwned` --expect-shards 4", "a;touch${IFS}pwned b|touch${IFS}pwned", "--wrap=id --uid=0 -o/x", "'a\\\nb' *", "-- --export=ALL,LD_PRELOAD=x"]
)
def test_nothing_is_evaluated(site, work, user, words):
    """What a user writes are words for the program, which fails for want of such directories, as the user."""
    work.give(user)
    write(f"{work.path}/pwnme", "")
    forge(site, 99999, user.pw_uid, work.path, f"shardweld {words}")
    got = submit(site)
    assert " refused: " in got.stdout or " submitted as job " in got.stdout, got
    if " submitted as job " in got.stdout:
        new = got.stdout.split()[6]
        assert site.outcome(new)[0] == "FAILED"
        assert site.show(new)["UserId"] == f"{user.pw_name}({user.pw_uid})"
        assert f"opt dir/slurm/weld.sbatch {words.split()[0]}" in site.show(new)["Command"]
    assert not [p for p in (f"{work.path}/pwned", "/pwned", f"{site.spools['controller']}/pwned") if os.path.exists(p)]


def test_a_directory_that_the_user_may_not_enter(site, work, user):
    os.mkdir(f"{work.path}/closed", 0o700)
    forge(site, 99999, user.pw_uid, f"{work.path}/closed", "shardweld a b --expect-shards 4")
    got = submit(site)
    assert "not submitted yet: " in got.stdout and "denied" in got.stdout.lower()


def test_the_users_rights_are_all_it_has(site, work, user):
    """A checkpoint of somebody else's is not read."""
    os.chmod(work.src, 0o700)
    home = os.path.join(site.root, "home")
    forge(site, 99999, user.pw_uid, home, f"shardweld '{work.src}' out --expect-shards 4")
    got = submit(site)
    new = got.stdout.split()[6]
    assert site.outcome(new)[0] == "FAILED"
    with open(f"{home}/weld-{new}.out") as f:
        assert "permission denied" in f.read().lower()
