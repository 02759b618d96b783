"""The drop-in beside torch's function: the same call, in the same torchrun job of 2 ranks, in turns.

For each layout (rows, columns) and number of output files (1, 4) a Llama-shaped BF16 checkpoint of 8 shards is made. Each round runs all
contenders once, the next round in the opposite order:

  torch      torch.distributed.checkpoint's consolidate_safetensors_files_on_every_rank
  shardweld  shardweld's, as it is called in its place; nobody waits for the disk (torch's never does)
  durable    the same without {"no_sync": True}, its default: the data are on the disk when it returns

Each writes into a directory of its own, which is emptied at the last moment. A time is that between two barriers, best of the rounds; torch
gives each rank whole output files, so that with one file a single rank works.

    make bench-python BENCH_ARGS='--size 2GiB --rounds 3 --dir /tmp'
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
sys.path[:0] = [os.path.join(ROOT, "tests", "e2e"), os.path.join(ROOT, "python"), HERE]
RANKS = 2
CASES = [(layout, files) for layout in ("rows", "columns") for files in (1, 4)]


def contenders():
    """{name: function of (input, output, {fqn: file})}."""
    from shardweld import consolidate_safetensors_files_on_every_rank as ours
    from torch.distributed.checkpoint._consolidate_hf_safetensors import (
        consolidate_safetensors_files_on_every_rank as torchs,
    )

    return {
        "torch": torchs,
        "shardweld": lambda *args: ours(*args, options={"no_sync": True}),
        "durable": ours,
    }


def work(spec):
    """One rank: runs them in turns; rank 0 prints {name: [seconds]}."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    with open(os.path.join(spec["input"], "map.json"), encoding="utf-8") as f:
        files = json.load(f)
    run, times = contenders(), {name: [] for name in spec["contenders"]}
    for r in range(spec["rounds"]):
        for name in spec["contenders"][:: -1 if r % 2 else 1]:
            out = os.path.join(spec["output"], name)
            if dist.get_rank() == 0:
                shutil.rmtree(out, ignore_errors=True)
                os.makedirs(out)
            dist.barrier()
            begin = time.perf_counter()
            run[name](spec["input"], out, files)
            dist.barrier()
            times[name].append(time.perf_counter() - begin)
    if dist.get_rank() == 0:
        print(json.dumps(times), flush=True)
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may abort an interpreter that ends (pytorch#190489)


def measure(spec):
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", os.path.abspath(__file__)]
    env = {"OMP_NUM_THREADS": "1", "SHARDWELD_LIBRARY": os.environ.get("SHARDWELD_BUILD", os.path.join(ROOT, "build")), **os.environ}
    done = subprocess.run(
        [sys.executable, *launch, "--rank", json.dumps(spec)], env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def same(a, b):
    """Both wrote the same tensors, bit for bit (noise has NaNs)."""
    import torch
    from safetensors import safe_open

    for name in sorted(n for n in os.listdir(a) if n.endswith(".safetensors")):
        with safe_open(os.path.join(a, name), "pt") as x, safe_open(os.path.join(b, name), "pt") as y:
            if set(x.keys()) != set(y.keys()):
                return False
            for key in x.keys():
                if not x.get_tensor(key).view(torch.int16).equal(y.get_tensor(key).view(torch.int16)):
                    return False
    return True


def table(args, names):
    import checkpoint

    print(f"{'':24}" + "".join(f"{name:>12}" for name in names) + "   torch / shardweld")
    for layout, files in CASES:
        with tempfile.TemporaryDirectory(dir=args.dir) as top:
            source = os.path.join(top, "in")
            total, _ = checkpoint.make(source, checkpoint.size_of(args.size), layout, 8, files)
            times = measure({"input": source, "output": top, "rounds": args.rounds, "contenders": names})
            best = {name: min(seconds) for name, seconds in times.items()}
            row = f"{layout}, {files} file{'s' if files > 1 else ' '}, {total / 2**30:.1f} GiB"
            row = f"{row:24}" + "".join(f"{best[name]:10.2f} s" for name in names)
            print(f"{row}   {best['torch'] / best['shardweld']:.1f}", flush=True)
            if not same(os.path.join(top, "torch"), os.path.join(top, "shardweld")):
                raise SystemExit("they differ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1GiB", help="bytes of tensor data [1GiB]")
    parser.add_argument("--rounds", default=3, type=int, help="[3]")
    parser.add_argument("--dir", help="where to work [the system's directory for temporary files]")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        work(json.loads(args.rank))
    else:
        table(args, ["torch", "shardweld", "durable"])


if __name__ == "__main__":
    main()
