"""Failures and kills while a checkpoint is sharded anew: OUTPUT_DIR holds what it held, or all that is new, or a part whose first shard is
missing, so that nobody can take it for a whole; and the next run sets it right."""

import json
import os
import shutil
import signal

import numpy as np
import oracle
import pytest
from conftest import CLEANING, STRICT, calls_of, may
from resharding import shards
from runner import errors, fails, finish, ok, run, show, start
from test_disk import small_disk  # noqa: F401 (a fixture)
from test_kill import at, wait_stopped

MESH = (2, 3)
MANIFEST = "shardweld.manifest.json"
SIDE = ("config.json", ".hf_metadata/tokenizer.json", ".hf_metadata/fqn_to_dtype_mapping.json", ".hf_metadata/fqn_to_file_index_mapping.json")


class Resharding:
    """A sharded input of two models, what it becomes, and an old set of other shards with side files of its own."""

    def __init__(self, base, rows=24):
        values = np.random.default_rng(5)
        tensors = {f"layers.{i}.w": oracle.random_tensor(values, "F32", (rows + i, 40)) for i in range(4)}
        models = {n: 1 + i % 2 for i, n in enumerate(tensors)}
        self.input = base / "in"
        oracle.write_sharded(str(self.input), tensors, {n: oracle.boxes_of(t.shape, (3,), (0,)) for n, t in tensors.items()}, models)
        self.new = shards({n.replace("layers", "h"): t for n, t in tensors.items()}, MESH, (1, 0), {n.replace("layers", "h"): j for n, j in models.items()})
        for name in SIDE[:3]:
            oracle.write(str(self.input / name), json.dumps({n: "F32" for n in tensors}, indent=2) + "\n")
            self.new[name] = (self.input / name).read_bytes().replace(b"layers", b"h" if "mapping" in name else b"layers")
        self.old = shards(tensors, (7,))
        self.old.update({name: name.encode() for name in SIDE})
        self.size = sum(map(len, self.new.values()))

    def put(self, out, there):
        """OUTPUT_DIR with the old set and a bystander, or none."""
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        for name, data in {**self.old, "notes.txt": b"mine"}.items() if there else ():
            oracle.write(str(out / name), data)

    def args(self, out, *options):
        mesh = ["--mesh", "x".join(map(str, MESH)), "--placements", "shard1,shard0", "--rename", "layers.=h."]
        return ["reshard", *mesh, "--overwrite", "--buffer-size", "4KiB", *options, self.input, out]

    def run(self, out, np=None, env=None):
        return run(self.args(out), np=np, env=env, timeout=60)

    def look(self, out):
        """old, new, none, torn, or what is wrong."""
        files = oracle.tree(out) if out.exists() else {}
        seen = {n: data for n, data in files.items() if not n.startswith(".shardweld")}
        if seen and out.parent.joinpath("in-place").exists() and seen.pop("notes.txt", None) != b"mine":
            return "the bystander is gone"
        seen.pop("notes.txt", None)
        if not seen:
            return "none"
        for which, tree in (("old", self.old), ("new", self.new)):
            if seen == tree:
                return which
        if any(n.startswith("shard-00001-") for n in seen if seen[n] == self.old.get(n)):
            return f"a part of the old set that looks whole: {sorted(seen)}"
        lowest = [n for n in self.new if n.startswith("shard-00001-")]
        if all(n in seen for n in lowest):
            return f"a part of the new set that looks whole: {sorted(seen)}"
        both = [n for n in seen if n.startswith("shard-")]
        if all(seen[n] == self.old.get(n) for n in both) or all(seen[n] == self.new.get(n) for n in both):
            return "torn"
        return f"a mixture: {sorted(seen)}"

    def next_run(self, out, np=None):
        ok(self.run(out, np=np))
        assert self.look(out) == "new"
        assert [n for n in os.listdir(out) + os.listdir(out.parent) if n.startswith(".shard") or n.startswith(".out")] == []


@pytest.fixture(scope="module")
def resharding(tmp_path_factory):
    return Resharding(tmp_path_factory.mktemp("resharding"))


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A few MiB: many rounds."""
    return Resharding(tmp_path_factory.mktemp("larger"), rows=6000)


def calls(resharding, out, tmp_path, np=None):
    """Those of a run without failures."""
    return calls_of(tmp_path, lambda listed: ok(resharding.run(out, np=np, env=listed)))


@pytest.mark.parametrize("there", [False, True])
def test_killed_at_each_step_of_publishing(resharding, tmp_path, rng, there):
    out = tmp_path / "parent" / "out"
    resharding.put(out, there)
    counts = calls(resharding, out, tmp_path)
    seen = set()
    for site in ("rename", "unlink", "fsync", "mkdir", "pread"):
        steps = range(1, counts.get((0, site), 0) + 1)
        for nth in steps if site == "rename" and len(steps) < 8 else sorted(rng.sample(steps, min(9 if site == "rename" else 1, len(steps)))):
            resharding.put(out, there)
            result = resharding.run(out, env=at(site, 0, nth, "kill"))
            assert result.status == 128 + signal.SIGKILL or result.status == -signal.SIGKILL, show(result)
            now = resharding.look(out)
            assert now in ("old", "new", "torn", "none") if there else now in ("new", "none"), f"{site} {nth}: {now}"
            seen.add(now)
            resharding.next_run(out)
    assert seen >= ({"old", "torn"} if there else {"none"}), seen


def test_killed_without_overwrite(resharding, tmp_path, rng):
    """OUTPUT_DIR is there, without shards. What the next run completes is its success; else it does all by itself."""
    out = tmp_path / "parent" / "out"
    args = [a for a in resharding.args(out) if a != "--overwrite"]
    for nth in sorted(rng.sample(range(1, 11), 4)):
        resharding.put(out, False)
        oracle.write(str(out / "notes.txt"), b"mine")
        oracle.write(str(out / "config.json"), b"old")
        run(args, env=at("rename", 0, nth, "kill"))
        assert resharding.look(out) == "new" or not (out / "shard-00001-model-00001-of-00002.safetensors").exists()
        ok(run(args))
        assert resharding.look(out) == "new" and (out / "notes.txt").read_bytes() == b"mine"
        assert not (out / ".shardweld-staging").exists()


@pytest.mark.parametrize("there", [False, True])
def test_failures(resharding, tmp_path, rng, there):
    """A sample of the sites of all ranks: one message, and nothing is lost."""
    out = tmp_path / "parent" / "out"
    resharding.put(out, there)
    counts = calls(resharding, out, tmp_path, np=2)
    assert {r for r, _ in counts} == {0, 1}
    for (rank, site), n in rng.sample(sorted(counts.items()), 6):
        resharding.put(out, there)
        spec = f"{site}:{rank}:{rng.randint(1, n)}"
        result = resharding.run(out, np=2, env={"SHARDWELD_FAULT": spec})
        now = resharding.look(out)
        if result.status == 0:
            assert site not in STRICT and now == "new", f"{spec}: {now}; {show(result)}"
        else:
            assert result.status == 4 and len(errors(result)) == 1, f"{spec}: {show(result)}"
            assert now in ("old" if there else "none", "new") or (site in CLEANING and now == "torn"), f"{spec}: {now}; {show(result)}"
        resharding.next_run(out)


def test_failures_of_one_process(resharding, tmp_path, rng):
    """Each site once: without a launcher that is quick."""
    out = tmp_path / "parent" / "out"
    resharding.put(out, True)
    counts = calls(resharding, out, tmp_path)
    for (rank, site), n in sorted(counts.items()):
        resharding.put(out, True)
        spec = f"{site}:{rank}:{rng.randint(1, n)}"
        result = resharding.run(out, env={"SHARDWELD_FAULT": spec})
        now = resharding.look(out)
        if result.status == 0:
            assert site not in STRICT and now == "new", f"{spec}: {now}; {show(result)}"
        else:
            assert result.status == 4 and len(errors(result)) == 1, f"{spec}: {show(result)}"
            assert now in ("old", "new") or (site in CLEANING and now == "torn"), f"{spec}: {now}; {show(result)}"
    resharding.next_run(out)


@pytest.mark.parametrize("there", [False, True])
def test_a_second_run_and_signals(resharding, tmp_path, there):
    """In the middle of the work: nothing is visible, another run is refused, and a signal leaves nothing behind; a kill what the next run
    removes."""
    out = tmp_path / "parent" / "out"
    for sig in (signal.SIGTERM, signal.SIGKILL):
        resharding.put(out, there)
        process = start(resharding.args(out), env=at("pread", 0, 20, "stop"))
        pid = wait_stopped(process)
        assert resharding.look(out) == ("old" if there else "none") and out.exists() == there
        fails(resharding.run(out), 2, "pid")
        os.kill(pid, sig)
        os.kill(pid, signal.SIGCONT)
        result = finish(process, 40)
        assert result.status in (-sig, 128 + sig), show(result)
        assert resharding.look(out) == ("old" if there else "none") and out.exists() == there
        if sig == signal.SIGTERM:
            assert os.listdir(out.parent) == (["out"] if there else []) and not (out / ".shardweld-staging").exists()
        resharding.next_run(out)


@pytest.mark.parametrize("store", ["random", "stream"])
def test_killed_with_a_manifest(resharding, tmp_path, store):
    """A manifest never speaks of files that are not there, but for the lowest shards, which come right behind it; the next run makes all whole."""
    first, out = tmp_path / "first", tmp_path / "out"
    args = resharding.args(out, "--manifest", "--store", store)
    ok(run(["reshard", "--ranks", "7", "--manifest", resharding.input, first]))
    shutil.copytree(first, out)
    counts = calls_of(tmp_path, lambda listed: ok(run(args, env=listed)))
    ok(run(["check", out]))
    whole = (out / MANIFEST).read_bytes()
    seen = set()
    for site in ("rename", "unlink"):
        for nth in range(1, counts.get((0, site), 0) + 1):
            shutil.rmtree(out)
            shutil.copytree(first, out)
            result = run(args, env=at(site, 0, nth, "kill"))
            assert result.status in (128 + signal.SIGKILL, -signal.SIGKILL), show(result)
            text = (out / MANIFEST).read_bytes() if (out / MANIFEST).exists() else None
            said = json.loads(text)["files"] if text else {}
            missing = [n for n, f in said.items() if not (out / n).exists() or (out / n).stat().st_size != f["size"]]
            assert missing == [] or (text == whole and all(n.startswith("shard-00001-") for n in missing)), f"{site} {nth}: {missing}"
            seen.add("none" if text is None else "new" if text == whole else "old")
            ok(run(args))
            assert (out / MANIFEST).read_bytes() == whole and not (out / ".shardweld-staging").exists()
            ok(run(["check", out]))
    assert "none" in seen and len(seen) > 1, seen


@pytest.mark.parametrize("np", [None, 2])
def test_a_shard_truncated_while_we_read(larger, tmp_path, np):
    src, out = tmp_path / "in", tmp_path / "parent" / "out"
    shutil.copytree(larger.input, src)
    larger.put(out, True)
    process = start([*larger.args(out)[:-2], src, out], np=np, env=at("create", 0, 1, "stop"))
    pid = wait_stopped(process)
    victim = src / oracle.shard_name(2, 1, 2)
    os.truncate(victim, victim.stat().st_size - 1000)
    os.kill(pid, signal.SIGCONT)
    fails(finish(process, 40), 3, victim.name)
    assert larger.look(out) == "old" and not (out / ".shardweld-staging").exists()


def test_somebody_else_makes_the_directory(resharding, tmp_path):
    """It was missing when the run began: what is there now is not touched."""
    out = tmp_path / "parent" / "out"
    resharding.put(out, False)
    process = start(resharding.args(out), env=at("pread", 0, 20, "stop"))
    pid = wait_stopped(process)
    oracle.write(str(out / "theirs"), b"theirs")
    os.kill(pid, signal.SIGCONT)
    fails(finish(process, 40), 4, "somebody has made it")
    assert os.listdir(out) == ["theirs"] and os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("np", [None, 2])
@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_fills(larger, small_disk, np, there):  # noqa: F811
    """The write itself meets the end, as on file systems that cannot tell before."""
    old = sum(len(d) + 4095 for d in larger.old.values()) if there else 0
    disk = small_disk(larger.size // 2 + old)
    out = disk / "parent" / "out"
    larger.put(out, there)
    fails(larger.run(out, np=np, env={"SHARDWELD_NO_RESERVE": "1"}), 4, "no space left on device")
    assert larger.look(out) == ("old" if there else "none")
    assert os.listdir(out.parent) == (["out"] if there else []) and not (out / ".shardweld-staging").exists()


def test_a_read_only_output_dir(resharding, tmp_path):
    may(["unshare", "-m", "true"], "a mount namespace of one's own")
    out = tmp_path / "parent" / "out"
    resharding.put(out, True)
    prefix = ["unshare", "-m", "sh", "-c", f'mount --bind "{out}" "{out}" && mount -o remount,ro,bind "{out}" && exec "$@"', "sh"]
    fails(run(resharding.args(out), prefix=prefix), 4, "read-only file system")
    fails(run(resharding.args(out / "below" / "it"), prefix=prefix), 4, "read-only file system")
    assert resharding.look(out) == "old"
