"""How the time and the memory of a plan grow with the files and with the ranks: scale.py [--dir DIR] [--files N ...] [--ranks N ...].

A catalogue of real headers over holes, 1,000 matrices sharded by rows over 64 to 25,000 files, is planned with -n by 1, 2, 4
and 8 ranks of this machine: one node. `parse` is the part of the plan in which headers are read and checked, `cpu` what all
ranks took of the processors; memory is the most that all ranks together had at a time, of what no file is behind, and what they
share once; and what is over that of as many ranks that have next to nothing to plan. At the end what --model files would take: what the largest run took more than the one before, a file, from there on.

Then the same boxes in torch's own format, up to 1,000 files, by 2 ranks: `.metadata` is read by one rank (`bench_metadata` times that alone), the
items by all; `parse` is both.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import catalogue  # noqa: E402
import oracle  # noqa: E402
import run  # noqa: E402
import runner  # noqa: E402


def processors():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Memory(threading.Thread):
    """What the program's processes have, anonymous and shared, looked at each 2 ms: the most of it."""

    def __init__(self, ranks):
        super().__init__(daemon=True)
        self.ranks, self.pids, self.most, self.ended = ranks, set(), 0, threading.Event()

    def find(self):
        program = os.path.realpath(runner.SHARDWELD)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # another user's, or it has ended
                if os.readlink(f"/proc/{pid}/exe") == program:
                    self.pids.add(pid)

    def held_by(self, pid):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                return sum(int(line.split()[1]) * 1024 for line in f if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
        except OSError:
            return 0  # it has ended

    def run(self):
        while not self.ended.is_set():
            if len(self.pids) < self.ranks:
                self.find()
            self.most = max(self.most, sum(map(self.held_by, self.pids)))
            time.sleep(0.002)


def plan(directory, source, ranks):
    """Seconds of parsing and planning, processor seconds, bytes of memory, boxes."""
    report = os.path.join(directory, "report")
    if os.path.exists(report):
        os.unlink(report)
    args = ["consolidate", "-n", "--report", report, source, os.path.join(directory, "out")]
    begin, memory = processors(), Memory(ranks)
    memory.start()
    result = runner.run(args, np=ranks, timeout=1200)
    memory.ended.set()
    memory.join()
    cpu = processors() - begin
    if result.status:
        sys.exit(runner.show(result))
    with open(report) as f:
        got = json.load(f)
    return got["seconds_parse"], got["seconds_plan"], cpu, memory.most, got["boxes"]


def some_of(directory, count):
    """A directory with links to the first COUNT files."""
    some = os.path.join(directory, "some")
    shutil.rmtree(some, ignore_errors=True)
    os.mkdir(some)
    for i in range(1, count + 1):
        os.link(os.path.join(directory, "all", oracle.shard_name(i)), os.path.join(some, oracle.shard_name(i)))
    return some


def show(files, ranks, row, base, alone):
    parse, seconds, cpu, memory, boxes = row
    over = memory - base
    ratio = over / alone if alone else 1
    print(
        f"{files:>8}{ranks:>6}{parse:>10.2f}{seconds:>10.2f}{cpu:>10.2f}{memory / 2**20:>10.0f}{over / 2**20:>10.1f}"
        f"{over / boxes:>12.2f}{ratio:>10.2f}",
        flush=True,
    )


def model(rows, ranks, files):
    """From the two largest runs on, by the line through them."""
    (less, a), (most, b) = sorted((n, row) for (n, r), row in rows.items() if r == ranks)[-2:]
    steps = (files - most) / (most - less)
    return [y + (y - x) * steps for x, y in zip(a, b)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="where the data go (200 KB a file) [a directory under build/]")
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--distcp", nargs="*", type=int, default=[64, 256, 1000])
    parser.add_argument("--metadata", help="the program bench_metadata")
    parser.add_argument("--files", nargs="+", type=int, default=[64, 256, 1024, 4096, 25000])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--model", type=int, default=100000)
    args = parser.parse_args()
    rows, base = {}, {}
    with run.scratch(args.dir) as directory:
        catalogue.make(os.path.join(directory, "one"), 1, 1)
        catalogue.make(os.path.join(directory, "all"), max(args.files), args.tensors)
        print(f"{args.tensors} tensors; seconds, MiB of all ranks of the node, bytes a box over the start of the ranks")
        print(f"{'files':>8}{'ranks':>6}{'parse':>10}{'plan':>10}{'cpu':>10}{'MiB':>10}{'over':>10}{'bytes/box':>12}{'to alone':>10}")
        for ranks in args.ranks:
            base[ranks] = plan(directory, os.path.join(directory, "one"), ranks)[3]
        for files in sorted(args.files):
            source = some_of(directory, files)
            for ranks in args.ranks:
                rows[files, ranks] = plan(directory, source, ranks)
                alone = rows[files, args.ranks[0]][3] - base[args.ranks[0]]
                show(files, ranks, rows[files, ranks], base[ranks], alone)
        if len(args.files) > 1:
            print(f"by the model, {args.model} files:")
            first = model(rows, args.ranks[0], args.model)[3] - base[args.ranks[0]]
            for ranks in args.ranks:
                show(args.model, ranks, model(rows, ranks, args.model), base[ranks], first)
        print("\n.metadata and .distcp")
        for count in args.distcp:
            some = os.path.join(directory, "some")
            shutil.rmtree(some, ignore_errors=True)
            catalogue.make_distcp(some, count, args.tensors)
            show(count, 2, plan(directory, some, 2), base.get(2, 0), 0)
            if args.metadata:
                metadata = os.path.join(some, ".metadata")
                print(f"{'':>8}{subprocess.run([args.metadata, metadata], check=True, capture_output=True, text=True).stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
