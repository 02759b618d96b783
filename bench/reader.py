"""Time the reader beside the limit and torch, and print a table.

A checkpoint saved by 8 ranks, rows sharded, is loaded onto other meshes: rows over 3, columns over 4, a 2x2 grid. Each rank's boxes
go into memory that has been touched, one rank after the other; the files are in the page cache, headers are included.

  limit      reads as many bytes as each rank needs, one after the other, with pread
  ranges     reads the very ranges of the files that each rank needs, with a pread for each: what reading can do at best without gaps
  shardweld  sw_checkpoint_read(); "no maps": with SW_READ_MAP_NEVER
  torch      HuggingFaceStorageReader: where the python in TORCH_PYTHON (default: build/venv/bin/python) has torch

BENCH_READER is the program bench_reader (default: build/bench/bench_reader).
"""

import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import checkpoint  # noqa: E402
import run  # noqa: E402

READER = os.environ.get("BENCH_READER") or os.path.join(os.environ.get("SHARDWELD_BUILD") or os.path.join(run.ROOT, "build"), "bench", "bench_reader")
MESHES = (("rows", 3), ("columns", 4), ("grid", 4))
THREADS = (1, 4)


def contenders(args, path, layout, ranks):
    """{name: (threads, command)}"""
    out = {}
    for threads in THREADS:
        ours = [READER, "-t", threads, "-k", 1]
        count = f"{threads} thread{'s' * (threads > 1)}"
        out[f"limit, {count}"] = threads, [*ours, "-l", path, layout, ranks]
        out[f"ranges, {count}"] = threads, [*ours, "-r", path, layout, ranks]
        out[f"shardweld, {count}"] = threads, [*ours, path, layout, ranks]
        out[f"shardweld, {count}, no maps"] = threads, [*ours, "-m", "never", path, layout, ranks]
        if args.torch:
            out[f"torch, {count}"] = threads, [args.torch, os.path.join(HERE, "peer_reader.py"), path, layout, ranks, threads, 1]
    return out


def compare(args, path, layout, ranks):
    field = contenders(args, path, layout, ranks)
    best = dict.fromkeys(field, float("inf"))
    size = 0
    for number in range(args.best):
        for name, (_, command) in field.items():
            if name.startswith("torch") and number >= args.torch_best:
                continue
            seconds, size = run.output_of(command).split()
            best[name] = min(best[name], float(seconds))
    print(f"\n8 ranks, rows -> {ranks} ranks, {layout}, {int(size) / 2**30:.2f} GiB, warm")
    print(f"  {'':<34}{'seconds':>9}{'GB/s':>8}{'of limit':>10}{'of torch':>10}")
    for name, (threads, _) in field.items():
        count = f"{threads} thread{'s' * (threads > 1)}"
        theirs = best.get(f"torch, {count}")
        torchs = f"{theirs / best[name]:.1f}x" if theirs and name.startswith("shardweld") else ""
        ratio = best[name] / best[f"limit, {count}"]
        print(f"  {name:<34}{best[name]:>9.3f}{int(size) / best[name] / 1e9:>8.2f}{ratio:>10.2f}{torchs:>10}", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2GiB", type=checkpoint.size_of, help="bytes of tensor data [2GiB]")
    parser.add_argument("--best", type=int, default=5, help="rounds [5]")
    parser.add_argument("--torch-best", type=int, default=2, help="rounds that torch takes part in [2]")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--dir", help="where the data go [a directory under build/]")
    return parser.parse_args()


def main():
    args = parse()
    with run.scratch(args.dir) as directory:
        args.torch = None if args.no_torch else run.python_with_torch()
        print(f"{os.cpu_count()} processors, best of {args.best}, in {directory}")
        checkpoint.make(directory, args.size, "rows", 8)
        for layout, ranks in MESHES:
            compare(args, directory, layout, ranks)


if __name__ == "__main__":
    main()
