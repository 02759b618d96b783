"""Time .distcp beside safetensors, the copy limit and the programs that merge it in Python, and print a table.

For rows and columns a Llama-shaped checkpoint is made and written again, the same boxes, as torch's own format (a state dict that holds
a model, as accelerate saves it). Then all run in turns, in another order each round, with the input in memory, without sync:

  limit        N processes copy the same bytes with pread and pwrite
  safetensors  shardweld, from the shard files, 1 and 2 ranks
  distcp       shardweld, from .metadata and .distcp files, 1 and 2 ranks
  accelerate   what `accelerate merge-weights` calls; dcp_to_torch_save is torch's, and save_file behind it: both where the python in
               TORCH_PYTHON (default: build/venv/bin/python) has them

Seconds are without the start of MPI and of Python. It fails where .distcp takes more than 1.1 (rows) or 1.2 (columns) of the limit, or is, with
2 ranks, less than 5 times as fast as either (which have as many threads).
"""

import argparse
import copy
import json
import os
import random
import shutil
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import checkpoint  # noqa: E402
import run  # noqa: E402

sys.path.insert(0, os.path.join(run.ROOT, "tests", "e2e"))
import distcp  # noqa: E402

MOST = {"rows": 1.1, "columns": 1.2}  # of the limit
LEAST = 5  # times as fast as theirs


def tensors_of(path):
    """(name, bytes) of a safetensors file."""
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        for name, entry in json.loads(f.read(n)).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                f.seek(8 + n + begin)
                yield name, f.read(end - begin)


def rewrite(case, layout, ranks, directory):
    """The same boxes and bytes in torch's format; a case like it."""
    tensors = {name: (shape, []) for name, shape in checkpoint.shapes(case.bytes_asked).items()}
    for rank, path in enumerate(case.paths):
        for name, data in tensors_of(path):
            shape, boxes = tensors[name]
            box = checkpoint.boxes(shape, layout, ranks)[rank]
            boxes.append(distcp.Box(f"__{rank}_0.distcp", box.offsets, box.shape, distcp.item("BF16", box.shape, data)))
    saved = {f"model.{name}": ("BF16", shape, boxes) for name, (shape, boxes) in tensors.items()}
    distcp.write(directory, saved, paths={f"model.{name}": ("model", name) for name in tensors})
    out = copy.copy(case)
    out.src = directory
    out.paths = sorted(os.path.join(directory, n) for n in os.listdir(directory) if n.endswith(".distcp"))
    os.sync()
    return out


def theirs(python, way):
    def once(case):
        env = {**os.environ, "OMP_NUM_THREADS": "2"}
        seconds, peak = run.output_of([python, os.path.join(HERE, "peer_distcp.py"), way, case.src, case.out], env).split()[-2:]
        return float(seconds), int(peak)

    return once


def contenders(args, plain, items):
    out = []
    for np in (1, 2):
        s = "s" * (np > 1)
        for piece in run.PIECES:
            out.append((plain, run.Contender(f"limit, {np} process{'es' * (np > 1)}", np, run.limit(args.limit, np, False, piece, False))))
        out.append((plain, run.Contender(f"safetensors, {np} rank{s}", np, run.shardweld(np, False))))
        out.append((items, run.Contender(f"distcp, {np} rank{s}", np, run.shardweld(np, False))))
    for way in ("accelerate", "dcp_to_torch_save") if args.torch else ():
        out.append((items, run.Contender(way, 1, theirs(args.torch, way), clears=True)))
    return out


def compare(args, directory, layout):
    """What it prints; the rules that were broken."""
    plain = run.Case(directory, layout, 1, args.size, args.ranks)
    plain.bytes_asked = args.size
    items = rewrite(plain, layout, args.ranks, os.path.join(directory, "items"))
    field = contenders(args, plain, items)
    plain.warm()
    items.warm()
    order = random.Random(1)
    for number in range(args.best):
        for case, c in order.sample(field, len(field)):
            if number < args.torch_best or not c.clears:
                c.once(case)
    field = run.merged([c for _, c in field])
    best = {c.name: c.best for c in field}
    limits = {c.processes: c.best for c in field if c.name.startswith("limit")}
    print(f"\n{layout}, 1 output file, {plain.bytes / 2**30:.2f} GiB, {args.ranks} ranks, warm, no sync")
    print(f"  {'':<26}{'seconds':>9}{'median':>9}{'of limit':>10}{'accelerate':>12}{'dcp_to_..':>12}{'peak MiB':>10}")
    broken = []
    for c in field:
        ours = c.name.startswith("distcp")
        times = {w: best[w] / c.best for w in ("accelerate", "dcp_to_torch_save") if w in best}
        shown = "".join(f"{f'{times[w]:.1f}x' if ours and w in times else '':>12}" for w in ("accelerate", "dcp_to_torch_save"))
        peak = f"{c.peak / 2**20:.0f}" if c.peak else ""
        print(f"  {c.name:<26}{c.best:>9.3f}{statistics.median(c.times):>9.3f}{c.best / limits[c.processes]:>10.2f}{shown}{peak:>10}", flush=True)
        if ours and c.best / limits[c.processes] > MOST[layout]:
            broken.append(f"{layout}, {c.name}: {c.best / limits[c.processes]:.2f} of the limit, at most {MOST[layout]}")
        broken += [f"{layout}, {c.name}: {t:.1f} times as fast as {w}, at least {LEAST}" for w, t in times.items() if ours and c.processes == 2 and t < LEAST]
    for where in (plain.src, plain.out, items.src):
        shutil.rmtree(where, ignore_errors=True)
    return broken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GiB", type=checkpoint.size_of, help="bytes of tensor data [1GiB]")
    parser.add_argument("--ranks", type=int, default=8, help="ranks that saved it [8]")
    parser.add_argument("--best", type=int, default=6, help="rounds [6]")
    parser.add_argument("--torch-best", type=int, default=2, help="rounds that Python's take part in [2]")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--dir", help="where the data go (3.2 times the size) [a directory under build/]")
    args = parser.parse_args()
    with run.scratch(args.dir) as directory:
        args.limit = run.build_limit(directory)
        args.torch = None if args.no_torch else run.python_with_torch()
        print(f"{os.cpu_count()} processors, best of {args.best}")
        broken = compare(args, directory, "rows") + compare(args, directory, "columns")
    sys.exit("\n".join(f"bench: {b}" for b in broken) if broken else 0)


if __name__ == "__main__":
    main()
