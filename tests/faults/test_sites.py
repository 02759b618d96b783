"""A failure injected at each call site of the file system and of MPI-IO, on each rank.

One rank alone at most calls of each site; three ranks at one call of each, with each transport; a seeded sample under
1, 2 and 5 ranks. (The unit tests of publication try every call.)
"""

import pytest
from conftest import TRANSPORTS, calls, next_run, problem, transport
from runner import run

EIO, ENOSPC, EDQUOT, EACCES = 5, 28, 122, 13


def drill(scene, out, spec, np=None, env=None):
    """One failure, and the run after it. In words what was wrong, or ""."""
    scene.put_old(out)
    try:
        result = run(scene.args(out), np=np, env={**(env or {}), "SHARDWELD_FAULT": spec}, timeout=40)
    except AssertionError as e:
        return f"{spec}: {e}"
    wrong = problem(scene, out, result, spec.split(":")[0]) or next_run(scene, out)
    return wrong and f"{spec}: {wrong}"


def report(wrong):
    wrong = [w for w in wrong if w]
    assert not wrong, f"{len(wrong)} drills failed:\n" + "\n".join(wrong[:8])


def test_most_calls_of_a_rank_alone(scenes, tmp_path, rng):
    scene, out = scenes[2], tmp_path / "out"
    counts = calls(scene, scene.put_old(out), tmp_path)
    assert {site for _, site in counts} >= {"rename", "fsync", "mkdir", "unlink", "lock", "open", "stat", "write"}
    report(
        drill(scene, out, f"{site}:0:{nth}")
        for (_, site), n in sorted(counts.items())
        for nth in (range(1, n + 1) if n <= 5 else sorted({1, n, *rng.sample(range(2, n), 3)}))
    )


def test_a_disk_that_does_not_come_back(scenes, tmp_path):
    """From some call on all of them fail, also those that clean up."""
    scene, out = scenes[1], tmp_path / "out"
    wrong = []
    for site in ("write", "rename", "fsync", "unlink", "rmdir", "open", "stat"):
        for nth in (1, 3, 6):
            scene.put_old(out)
            run(scene.args(out), env={"SHARDWELD_FAULT": f"{site}:0:{nth}+"}, timeout=40)
            now = scene.look(out)
            if now.mixture or not (now.old or now.new or now.journal):
                wrong.append(f"{site} {nth}: {now}")
            wrong.append(next_run(scene, out))
    report(wrong)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("io", TRANSPORTS)
def test_every_site_of_each_of_three(scenes, tmp_path, rng, io, rank):
    """With one output file, or with two: then the ranks work in two groups."""
    out, env, wrong = tmp_path / "out", transport(io), []
    for odd, nfiles in enumerate((1, 2)):
        scene = scenes[nfiles]
        counts = calls(scene, scene.put_old(out), tmp_path, np=3, env=env)
        assert (rank, "mpi_write") in counts
        mine = sorted((site, n) for (r, site), n in counts.items() if r == rank)
        for site, n in mine[(odd + TRANSPORTS.index(io)) % 2 :: 2]:
            err = rng.choice([EIO, ENOSPC, EDQUOT, EACCES])
            wrong.append(drill(scene, out, f"{site}:{rank}:{rng.randint(1, n)}:{err}", np=3, env=env))
    report(wrong)


@pytest.mark.parametrize("np", [1, 2, 5])
def test_seeded_sample(scenes, tmp_path, rng, np):
    scene, out = scenes[2], tmp_path / "out"
    counts = calls(scene, scene.put_old(out), tmp_path, np=np)
    picks = rng.sample([(r, s, i) for (r, s), n in sorted(counts.items()) for i in range(1, n + 1)], 12)
    report(drill(scene, out, f"{site}:{rank}:{nth}", np=np) for rank, site, nth in picks)


def test_two_ranks_fail_at_once(scenes, tmp_path):
    """Still one message."""
    scene, out = scenes[2], tmp_path / "out"
    report(drill(scene, out, f"{site}:-1:1", np=3) for site in ("mpi_write", "mpi_sync", "pread", "mpi_close"))
