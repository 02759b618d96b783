"""Failures and kills while tensors are saved from memory: OUTPUT_DIR holds what it held, or all that is new, or a part that nobody can
take for a whole; and the next run sets it right."""

import os
import shutil
import signal

import numpy as np
import oracle
import pytest
from conftest import CLEANING, STRICT, calls_of
from resharding import together
from runner import fails, run, show
from saving import describe, save, saved
from test_disk import small_disk  # noqa: F401 (a fixture)

SHARDS, CONSOLIDATED = "shards", "consolidated"


class Saving:
    """An old and a new save of the same names, by 4 and by 3 ranks; and what OUTPUT_DIR is with each."""

    def __init__(self, base, kind):
        self.kind, self.specs, self.trees = kind, {}, {}
        for seed, (which, ranks) in enumerate((("old", 4), ("new", 3))):
            values = np.random.default_rng(seed)
            tensors = {f"layers.{i}.w": oracle.random_tensor(values, "F32", (24 + i, 40)) for i in range(4)}
            boxes = {name: oracle.boxes_of(t.shape, (ranks,), (0,)) for name, t in tensors.items()}
            self.specs[which] = describe(str(base / which), tensors, boxes, values)
            if kind == SHARDS:
                oracle.write_sharded(str(base / f"{which}-tree"), tensors, boxes, own=True)
                self.trees[which] = oracle.tree(base / f"{which}-tree")
            else:
                self.trees[which] = oracle.consolidated(tensors, oracle.numbered({n: 1 for n in tensors}))

    def put(self, out, there):
        """OUTPUT_DIR with the old save, or none."""
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        for name, data in self.trees["old"].items() if there else ():
            oracle.write(str(out / name), data)

    def run(self, out, env=None):
        """env may hold a fault, and a directory for MPI's files."""
        return save(self.kind, self.specs["new"], out, "overwrite", "buffer_size=16KiB", np=3, env=env)

    def look(self, out):
        """old, new, none, torn (a part of one of them, which shows it), or what is wrong."""
        files = oracle.tree(out) if out.exists() else {}
        seen = {n: data for n, data in files.items() if not n.startswith(".shardweld")}
        if not seen:
            return "none"
        for which, tree in self.trees.items():
            if seen == tree:
                return which
            if all(tree.get(n) == data for n, data in seen.items()):
                first = oracle.INDEX if self.kind == CONSOLIDATED else oracle.shard_name(1)
                if self.kind == SHARDS:  # nobody can take it for a whole: it begins with a hole
                    fails(run(["consolidate", out, out.parent / "welded"]), 3, "[0, 0]")
                return "torn" if first not in seen else f"a part of {which} that looks whole: {sorted(seen)}"
        return f"a mixture: {sorted(seen)}"

    def next_run(self, out, env=None):
        saved(self.run(out, env))
        assert self.look(out) == "new"
        assert [n for n in os.listdir(out) + os.listdir(out.parent) if n.startswith(".")] == []


@pytest.fixture(scope="module", params=[SHARDS, CONSOLIDATED])
def saving(request, tmp_path_factory):
    return Saving(tmp_path_factory.mktemp(request.param), request.param)


def calls(saving, out, tmp_path):
    """Those of a run without failures."""
    return calls_of(tmp_path, lambda listed: saved(saving.run(out, env=listed)))


@pytest.mark.parametrize("there", [False, True])
def test_killed_at_each_step_of_publishing(saving, tmp_path, rng, there):
    saving.put(tmp_path / "whole" / "out", there)
    counts = calls(saving, tmp_path / "whole" / "out", tmp_path)
    steps = {site: range(1, counts.get((0, site), 0) + 1) for site in ("rename", "unlink", "fsync", "mkdir")}
    chosen = [(s, n) for s, every in steps.items() for n in (every if s == "rename" else sorted(rng.sample(every, min(3, len(every)))))]

    def killed(step, env):
        site, nth = step
        out = tmp_path / f"{site}-{nth}" / "out"
        saving.put(out, there)
        result = saving.run(out, env={**env, "SHARDWELD_FAULT": f"{site}:0:{nth}:kill"})
        assert result.status == 128 + signal.SIGKILL, show(result)
        now = saving.look(out)
        assert now in (("old", "new", "torn", "none") if there else ("new", "none") if saving.kind == SHARDS else ("new", "none", "torn")), f"{site} {nth}: {now}"
        assert now != "none" or there or saving.kind == CONSOLIDATED or not out.exists()
        saving.next_run(out, env)

    together(killed, chosen)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("there", [False, True])
def test_killed_while_writing(saving, tmp_path, rng, there, rank):
    """Any rank, in the middle of its data: what was there is untouched, a missing OUTPUT_DIR holds nothing."""
    out = tmp_path / "parent" / "out"
    saving.put(out, there)
    site, nth = ("write", 2) if saving.kind == SHARDS else ("mpi_write", rng.randint(1, 2))
    result = saving.run(out, env={"SHARDWELD_FAULT": f"{site}:{rank}:{nth}:kill"})
    assert result.status == 128 + signal.SIGKILL, show(result)
    assert saving.look(out) == ("old" if there else "none")
    assert there or saving.kind == CONSOLIDATED or not out.exists()
    saving.next_run(out)


def drill(saving, out, there, spec, env):
    saving.put(out, there)
    site = spec.split(":")[0]
    result = saving.run(out, env={**env, "SHARDWELD_FAULT": spec})
    now = saving.look(out)
    if result.status == 0:
        assert site not in STRICT and now == "new", f"{spec}: {now}; {show(result)}"
    else:
        assert result.status == 4 and result.stdout.count("\n") == 1, f"{spec}: {show(result)}"
        assert now in ("old" if there else "none", "new") or (site in CLEANING and now == "torn"), f"{spec}: {now}; {show(result)}"
        assert now != "none" or site in CLEANING or os.listdir(out.parent) == [], f"{spec}: {os.listdir(out.parent)}"


@pytest.mark.parametrize("there", [False, True])
def test_failures(saving, tmp_path, rng, there):
    """At each site of one of the ranks: one message, and nothing is lost."""
    out = tmp_path / "parent" / "out"
    saving.put(out, there)
    counts = calls(saving, out, tmp_path)
    assert {r for r, _ in counts} == {0, 1, 2}
    drills = []
    for site in sorted({s for _, s in counts}):
        rank = rng.choice([r for r, s in counts if s == site])
        drills.append((len(drills), f"{site}:{rank}:{rng.randint(1, counts[rank, site])}"))

    def failed(number_and_spec, env):
        number, spec = number_and_spec
        mine = tmp_path / str(number) / "out"
        drill(saving, mine, there, spec, env)
        if number % 3 == 0:
            saving.next_run(mine, env)

    together(failed, drills)


@pytest.mark.parametrize("short", ["from the first byte on", "on the last bytes"])
@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_fills(saving, small_disk, there, short):  # noqa: F811
    """Space is not reserved, so that the write itself meets the end."""
    need = sum(len(data) // 4096 + 1 for data in saving.trees["new"].values()) * 4096
    held = sum(len(data) // 4096 + 1 for data in saving.trees["old"].values()) * 4096 if there else 0
    out = small_disk(held + need + 10 * 4096) / "parent" / "out"
    saving.put(out, there)
    stat = os.statvfs(out.parent)
    spare = 4096 * 3 if short == "from the first byte on" else need
    (out.parent.parent / "filler").write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - spare)))
    result = saving.run(out, env={"SHARDWELD_NO_RESERVE": "1"})
    assert result.status == 4 and "no space left on device" in result.stdout.lower(), show(result)
    assert saving.look(out) == ("old" if there else "none")
    assert there or os.listdir(out.parent) == []
    (out.parent.parent / "filler").unlink()
    saving.next_run(out)
