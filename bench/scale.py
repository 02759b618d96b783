"""How the time and the memory of a plan grow with the number of shard files: scale.py [--dir DIR].

A catalogue of real headers over holes, 1,000 matrices sharded by rows over 64 to 4,096 files, is planned
with -n by 2 ranks. Everything that is printed is for both ranks together; the seconds are the report's, `parse` is
the part of the plan in which headers are read and checked.

Then the same boxes in torch's own format, up to 1,000 files: `.metadata` is read by one rank (`bench_metadata` times that alone), the items by
all; `parse` is both.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import catalogue  # noqa: E402
import oracle  # noqa: E402
import runner  # noqa: E402


def plan(directory, ranks):
    report, peaks = os.path.join(directory, "report"), os.path.join(directory, "peaks")
    for path in (report, peaks):
        if os.path.exists(path):
            os.unlink(path)
    prefix = [sys.executable, os.path.join(runner.HERE, "peak.py"), peaks]
    args = ["consolidate", "-n", "--report", report, os.path.join(directory, "some"), os.path.join(directory, "out")]
    begin = time.perf_counter()
    result = runner.run(args, np=ranks, prefix=prefix, timeout=600)
    wall = time.perf_counter() - begin
    if result.status:
        sys.exit(runner.show(result))
    with open(peaks) as f:
        memory = sum(int(line) for line in f.read().split())
    with open(report) as f:
        got = json.load(f)
    return got["seconds_plan"], got["seconds_parse"], wall, memory, got["boxes"]


def some_of(directory, count):
    """A directory with links to the first COUNT files."""
    some = os.path.join(directory, "some")
    shutil.rmtree(some, ignore_errors=True)
    os.mkdir(some)
    size = 0
    for i in range(1, count + 1):
        path = os.path.join(directory, "all", oracle.shard_name(i))
        os.link(path, os.path.join(some, oracle.shard_name(i)))
        with open(path, "rb") as f:
            size += int.from_bytes(f.read(8), "little")
    return size


def title(*words):
    print(f"{words[0]:>8}{'boxes':>12}{words[1]:>14}{'parse s':>10}{'plan s':>10}{'wall s':>10}{'us/box':>10}{'MiB':>10}")


def row(args, directory, count, size):
    seconds, parse, wall, memory, boxes = min(plan(directory, args.ranks) for _ in range(2))
    each = seconds / boxes * 1e6
    print(f"{count:>8}{boxes:>12}{size / 1e6:>14.1f}{parse:>10.3f}{seconds:>10.3f}{wall:>10.2f}{each:>10.3f}{memory / 2**20:>10.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="where the data go (1 GB) [a directory under build/]")
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--files", nargs="+", type=int, default=[64, 256, 1024, 4096])
    parser.add_argument("--distcp", nargs="+", type=int, default=[64, 256, 1000])
    parser.add_argument("--metadata", help="the program bench_metadata")
    parser.add_argument("--ranks", type=int, default=2)
    args = parser.parse_args()
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    directory = tempfile.mkdtemp(prefix="scale-", dir=args.dir or os.path.join(ROOT, "build"))
    try:
        catalogue.make(os.path.join(directory, "all"), max(args.files), args.tensors)
        print(f"{args.tensors} tensors, {args.ranks} ranks")
        title("files", "headers MB")
        for count in args.files:
            row(args, directory, count, some_of(directory, count))
        print("\n.metadata and .distcp")
        title("files", ".metadata MB")
        for count in args.distcp:
            some = os.path.join(directory, "some")
            shutil.rmtree(some)
            catalogue.make_distcp(some, count, args.tensors)
            metadata = os.path.join(some, ".metadata")
            row(args, directory, count, os.path.getsize(metadata))
            if args.metadata:
                print(f"{'':>8}{subprocess.run([args.metadata, metadata], check=True, capture_output=True, text=True).stdout.strip()}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
