"""Time saving from memory, on 2 ranks, beside torch's save and consolidation:

  limit         2 processes write the bytes that they hold to one file, half each
  consolidated  sw_save_consolidated(): straight from memory
  shards        sw_save_shards()
  both          sw_save_shards(), then shardweld consolidate
  torch         dcp.save with HuggingFaceStorageWriter(enable_consolidation=True): shards, then one rank welds them

Before each run a file of twice the size is written and, at the last moment, removed: where a virtual machine gives free memory back to
its host, a run would otherwise pay for every page of the page cache again. No one waits for the disk. The ranks hold BF16 noise, shaped like a Llama, sharded by rows or by columns. Best of some rounds.
"""

import argparse
import json
import os
import shutil
import sys
import time
from math import prod
from multiprocessing import Barrier, Process, Queue

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
sys.path.insert(0, HERE)
import checkpoint  # noqa: E402
import run  # noqa: E402
import runner  # noqa: E402
import saving  # noqa: E402

RANKS = 2
PIECE = 8 << 20


def describe(directory, size, layout):
    """What each rank holds, packed, as the saving program takes it; (path, bytes of tensor data)."""
    noise, items, total = os.urandom(checkpoint.NOISE), [], 0
    for rank in range(RANKS):
        at, path = 0, os.path.join(directory, f"memory-{rank}")
        with open(path, "wb") as f:
            for name, shape in checkpoint.shapes(size).items():
                box = checkpoint.boxes(shape, layout, RANKS)[rank]
                items.append({"rank": rank, "name": name, "dtype": "BF16", "global_shape": shape, "offsets": box.offsets, "shape": box.shape, "strides": None, "file": path, "at": at})  # fmt: skip
                left = 2 * prod(box.shape)
                at += left
                while left:
                    left -= f.write(noise[: min(left, len(noise))])
        total += at
    path = os.path.join(directory, "items.json")
    with open(path, "w") as f:
        json.dump(items, f)
    return path, total


def fill(case):
    with open(case["filler"], "wb") as f:
        for _ in range(0, int(2.1 * case["bytes"]), PIECE):
            f.write(bytes(PIECE))


def write_half(rank, path, total, barrier, seconds):
    data, begin, end = memoryview(os.urandom(PIECE)), total // RANKS * rank, total // RANKS * (rank + 1)
    fd = os.open(path, os.O_WRONLY)
    barrier.wait()
    start = time.perf_counter()
    for at in range(begin, end, PIECE):
        os.pwrite(fd, data[: min(PIECE, end - at)], at)
    barrier.wait()
    seconds.put(time.perf_counter() - start)


def limit(case):
    path = os.path.join(case["out"], "limit")
    os.makedirs(case["out"], exist_ok=True)
    with open(path, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, case["bytes"])
    barrier, seconds = Barrier(RANKS), Queue()
    writers = [Process(target=write_half, args=(r, path, case["bytes"], barrier, seconds)) for r in range(RANKS)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    return max(seconds.get() for _ in writers)


def from_memory(kind):
    def once(case):
        return float(saving.saved(saving.save(kind, case["spec"], case["out"], "no_sync", np=RANKS)).stdout.split()[2])

    return once


def both(case):
    seconds = from_memory("shards")({**case, "out": os.path.join(case["out"], "sharded")})
    report = os.path.join(case["out"], "report.json")
    run.output_of(runner.command(["consolidate", "--report", report, "-q", "--no-sync", os.path.join(case["out"], "sharded"), case["out"]], RANKS), runner.environment())
    with open(report) as f:
        got = json.load(f)
    return seconds + got["seconds_plan"] + got["seconds_write"] + got["seconds_publish"]


def torch(python):
    def once(case):
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
        env = {**runner.environment(), "OMP_NUM_THREADS": "1"}
        env["PYTHONPATH"] = os.pathsep.join([HERE, os.path.join(ROOT, "tests", "e2e")])
        text = run.output_of([python, *launch, os.path.join(HERE, "peer_torch_save.py"), case["out"], case["layout"], case["size"], case["filler"]], env)
        return float(text.split()[-2])

    return once


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GiB", type=checkpoint.size_of, help="bytes of tensor data [1GiB]")
    parser.add_argument("--layouts", nargs="+", default=["rows", "columns"])
    parser.add_argument("--best", type=int, default=3, help="rounds [3]")
    parser.add_argument("--torch-best", type=int, default=1, help="rounds that torch takes part in [1]")
    parser.add_argument("--dir", help="where the data go [a directory under build/]")
    args = parser.parse_args()
    field = {"limit": limit, "consolidated": from_memory("consolidated"), "shards": from_memory("shards"), "both": both}
    python = run.python_with_torch() if args.torch_best else None
    if python:
        field["torch"] = torch(python)
    with run.scratch(args.dir) as directory:
        for layout in args.layouts:
            case = {"out": os.path.join(directory, "out"), "filler": os.path.join(directory, "filler"), "layout": layout, "size": args.size}
            case["spec"], case["bytes"] = describe(directory, args.size, layout)
            times = {name: [] for name in field}
            for number in range(args.best):
                for name, once in field.items():
                    if name == "torch" and number >= args.torch_best:
                        continue
                    shutil.rmtree(case["out"], ignore_errors=True)
                    fill(case)
                    if name != "torch":  # it takes long to start, and removes the file by itself
                        os.unlink(case["filler"])
                    times[name].append(once(case))
            print(f"\n{layout}, {case['bytes'] / 2**30:.2f} GiB, {RANKS} ranks, warm, no sync")
            print(f"  {'':<16}{'seconds':>9}{'GB/s':>8}{'of limit':>10}{'of torch':>10}")
            for name, all_times in times.items():
                best = min(all_times)
                theirs = f"{min(times['torch']) / best:.1f}x" if "torch" in times and name != "torch" else ""
                print(f"  {name:<16}{best:>9.3f}{case['bytes'] / best / 1e9:>8.2f}{best / min(times['limit']):>10.2f}{theirs:>10}", flush=True)


if __name__ == "__main__":
    main()
