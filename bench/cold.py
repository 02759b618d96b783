"""Time the program from a cold disk to a durable output, beside the copy limit, and watch the page cache.

For each layout (rows, columns) a Llama-shaped checkpoint is made; then all contenders run, in another order each
round, and the best time of each counts. Before each run the input leaves the page cache and the disk is idle; at the
end of each the output is on the disk.

  limit      the best of cp with fsync, dd with conv=fsync, and 1 and 2 processes that pread, pwrite and fsync
  shardweld  1 and 2 ranks, without and with --drop-cache

`of limit` compares the best times; `cache MiB` is the most of the input's and the output's pages that was seen in the
page cache at once (fincore, ten times a second). With --check the status is 1 where the best of 1 and 2 ranks took more
than 1.1 of the limit, or a weld with --drop-cache held more than 512 MiB.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading

import checkpoint
import run

LIMIT_OF_TIME, LIMIT_OF_CACHE = 1.1, 512


class Watch(threading.Thread):
    """The most pages of some files and of what is in a directory that were in the page cache, in bytes."""

    def __init__(self, paths, directory):
        super().__init__()
        self.paths, self.directory, self.most, self.done = paths, directory, 0, threading.Event()

    def look(self):
        made = [os.path.join(d, n) for d, _, names in os.walk(self.directory) for n in names]
        got = subprocess.run(["fincore", "-b", "-n", "-o", "RES", *self.paths, *made], capture_output=True, text=True, check=False)
        self.most = max(self.most, sum(int(word) for word in got.stdout.split()))

    def run(self):
        while not self.done.wait(0.1):
            self.look()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def cool(case):
    """Only our own files leave the page cache: others may be at work on this machine."""
    shutil.rmtree(case.out, ignore_errors=True)
    os.makedirs(case.out)
    os.sync()
    for path in case.paths:
        with open(path, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(command):
    """By a program of the system that copies file by file, timed by itself."""

    def once(case):
        begin = run.time.perf_counter()
        for path in case.paths:
            run.output_of(command(path, os.path.join(case.out, os.path.basename(path))))
        return run.time.perf_counter() - begin, None

    return once


def contenders(args):
    out = [
        run.Contender("limit", 1, copy(lambda a, b: ["sh", "-c", 'cp "$0" "$1" && sync "$1"', a, b])),
        run.Contender("limit", 1, copy(lambda a, b: ["dd", f"if={a}", f"of={b}", "bs=8M", "conv=fsync", "status=none"])),
    ]
    for np in (1, 2):
        for piece in run.PIECES:
            out.append(run.Contender("limit", np, run.limit(args.limit, np, True, piece, False)))
        for words in ([], ["--drop-cache"]):
            name = " ".join([f"shardweld, {np} rank{'s' * (np > 1)}", *words])
            out.append(run.Contender(name, np, run.shardweld(np, True, *words, *args.option)))
    return out


def compare(args, case):
    """False where a limit is passed."""
    field, order, caches = contenders(args), random.Random(1), {}
    for _ in range(args.best):
        for c in order.sample(field, len(field)):
            cool(case)
            with Watch(case.paths, case.out) as watch:
                c.once(case)
            caches[c.name] = max(caches.get(c.name, 0), watch.most)
    field = run.merged(field)
    limit = min(c.best for c in field if c.name == "limit")
    print(f"\n{case.layout}, {case.bytes / 2**30:.2f} GiB, cold, synced")
    print(f"  {'':<34}{'seconds':>9}{'median':>9}{'GB/s':>8}{'of limit':>10}{'cache MiB':>11}")
    for c in field:
        cache = caches[c.name] / 2**20
        print(f"  {c.name:<34}{c.best:>9.3f}{statistics.median(c.times):>9.3f}{case.bytes / c.best / 1e9:>8.2f}{c.best / limit:>10.2f}{cache:>11.0f}", flush=True)
    fast = min(c.best for c in field if c.name != "limit") <= LIMIT_OF_TIME * limit
    small = all(caches[c.name] <= LIMIT_OF_CACHE * 2**20 for c in field if "--drop-cache" in c.name)
    return fast and small


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2GiB", type=checkpoint.size_of, help="bytes of tensor data [2GiB]")
    parser.add_argument("--layouts", nargs="+", default=["rows", "columns"])
    parser.add_argument("--files", type=int, default=1, help="number of output files [1]")
    parser.add_argument("--ranks", type=int, default=8, help="ranks that saved the checkpoint [8]")
    parser.add_argument("--best", type=int, default=5, help="rounds [5]")
    parser.add_argument("--check", action="store_true", help="status 1 where a limit is passed")
    parser.add_argument("--option", action="append", default=[], help="another option for shardweld")
    parser.add_argument("--dir", help="where the data go (2.1 times the size), on a disk [a directory under build/]")
    return parser.parse_args()


def main():
    args = parse()
    good = True
    with run.scratch(args.dir) as directory:
        args.limit = run.build_limit(directory)
        print(f"{os.cpu_count()} processors, best of {args.best}, in {directory}")
        for layout in args.layouts:
            case = run.Case(directory, layout, args.files, args.size, args.ranks)
            good = compare(args, case) and good
            shutil.rmtree(case.src)
            shutil.rmtree(case.out)
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
