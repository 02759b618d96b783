"""Time the program beside the copy limit and torch, and print a table.

For each layout (rows, columns, grid) and number of output files (1, 4) a Llama-shaped checkpoint is made;
then all contenders run, in another order each round, and the best time of each counts (the median shows how
quiet the machine was):

  limit      N processes copy the same bytes with pread and pwrite, to one file or to a file each
  shardweld  1 and 2 ranks, by band, and by owner
  torch      consolidate_safetensors_files, and its form on every rank under torchrun: where the python in
             TORCH_PYTHON (default: build/venv/bin/python) has torch
  NeMo       NeMo Automodel's functions of the same names, where --nemo names a directory with its package

Warm runs have the input in memory and do not wait for the disk (--no-sync); cold ones read from the disk and
make the output durable (torch's never does). The time of shardweld is that of its report: all but the start
of MPI; `wall` has that too. GB/s counts the bytes of the tensors once, `of limit` compares with the limit of
as many processes.

The last table of each layout compares the output with its input: `cat IN/* OUT/* >/dev/null` and shardweld verify
take turns, all warm, and `of cat` is the quotient of the best times.

At the end an F32 checkpoint becomes BF16 (--cast-dtype bf16), beside the limit of copying its bytes as they are.

--json FILE keeps what was measured of welding, with the machine and the versions: bench/plot.py draws it.
"""

import argparse
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
sys.path.insert(0, HERE)
import checkpoint  # noqa: E402
import runner  # noqa: E402

PIECES = (1 << 20, 8 << 20)  # the limit is the better of these


class Contender:
    """A name, the processes it takes, and how to run it once: seconds and peak bytes of a rank.

    clears: it removes the output of the one before by itself, since it takes long to start.
    """

    def __init__(self, name, processes, run, clears=False):
        self.name, self.processes, self.run, self.clears = name, processes, run, clears
        self.times, self.wall, self.peak = [], None, 0

    def once(self, case):
        """The output of the contender before goes now and no earlier: where a virtual machine gives free memory
        back to its host, whoever came a few seconds later would pay for every page of the page cache again."""
        if not self.clears:
            shutil.rmtree(case.out, ignore_errors=True)
            os.makedirs(case.out)
        begin = time.perf_counter()
        seconds, peak = self.run(case)
        wall = time.perf_counter() - begin
        if not self.times or seconds < self.best:
            self.wall = wall
        self.times.append(seconds)
        self.peak = max(self.peak, peak or 0)

    @property
    def best(self):
        return min(self.times)


class Case:
    """A checkpoint to be welded, and where to."""

    def __init__(self, directory, layout, files, size, ranks, dtype="BF16"):
        self.layout, self.files = layout, files
        self.src, self.out = os.path.join(directory, "in"), os.path.join(directory, "out")
        self.map = os.path.join(self.src, "map.json")
        self.bytes, self.paths = checkpoint.make(self.src, size, layout, ranks, files, dtype)
        os.sync()

    def warm(self):
        for path in self.paths:
            with open(path, "rb", buffering=0) as f:
                while f.read(8 << 20):
                    pass

    def cool(self):
        os.sync()
        try:
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("3")
        except OSError:
            for path in self.paths:
                with open(path, "rb") as f:
                    os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def output_of(command, env=None, timeout=1800):
    got = subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True, timeout=timeout, check=False)
    if got.returncode:
        sys.exit(f"{' '.join(map(str, command))}: status {got.returncode}\n{got.stdout}{got.stderr}")
    return got.stdout


def shardweld(np, cold, *options, becomes=1.0):
    """becomes: bytes that are written for each byte of the input."""

    def run(case):
        report = os.path.join(case.out, "..", "report.json")
        args = ["consolidate", "--fqn-map", case.map, "--report", report, "-q", *options, *([] if cold else ["--no-sync"])]
        output_of(runner.command([*args, case.src, case.out], np), runner.environment())
        with open(report) as f:
            got = json.load(f)
        if got["bytes"] != case.bytes * becomes:
            sys.exit(f"shardweld wrote {got['bytes']} bytes of {case.bytes}")
        return got["seconds_plan"] + got["seconds_write"] + got["seconds_publish"], got["peak_memory"]

    return run


def limit(program, np, cold, piece, each):
    def run(case):
        flags = [*(["-s"] if cold else []), *(["-e"] if each else [])]
        return float(output_of([program, "-n", np, "-b", piece, *flags, case.out, *case.paths])), None

    return run


MODULES = {
    "torch": "torch.distributed.checkpoint._consolidate_hf_safetensors",
    "NeMo": "nemo_automodel.components.checkpoint._backports.consolidate_hf_safetensors",
}


def peer(args, whose, np):
    def run(case):
        launch = [] if np == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={np}"]
        env = {**runner.environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": args.nemo or ""}
        text = output_of([args.torch, *launch, os.path.join(HERE, "peer_torch.py"), case.src, case.out, case.map, MODULES[whose]], env)
        seconds, peak = text.split()[-2:]
        return float(seconds), int(peak)

    return run


def contenders(args, files, cold):
    out = []
    for np in (1, 2):
        each = " a file each" if files > 1 and np > 1 else ""
        for piece in PIECES:
            out.append(Contender(f"limit, {np} process{'es' * (np > 1)}{each}", np, limit(args.limit, np, cold, piece, bool(each))))
        out.append(Contender(f"shardweld, {np} rank{'s' * (np > 1)}, band", np, shardweld(np, cold, "--assign", "band", *args.option)))
    out.append(Contender("shardweld, 2 ranks, owner", 2, shardweld(2, cold, "--assign", "owner", *args.option)))
    for whose in args.peers:
        out.append(Contender(whose, 1, peer(args, whose, 1), clears=True))
        if files > 1:
            out.append(Contender(f"{whose} on every rank, 2 ranks", 2, peer(args, whose, 2), clears=True))
    return out


def cat(case):
    begin = time.perf_counter()
    paths = case.paths + sorted(os.path.join(case.out, n) for n in os.listdir(case.out) if n.endswith(".safetensors"))
    with subprocess.Popen(["cat", *paths], stdout=subprocess.DEVNULL) as process:
        if process.wait():
            sys.exit("cat failed")
    return time.perf_counter() - begin


def verify(np, *options):
    def run(case):
        report = os.path.join(case.out, "..", "report.json")
        args = ["verify", "--fqn-map", case.map, "--report", report, "-q", *options]
        output_of(runner.command([*args, case.src, case.out], np), runner.environment())
        with open(report) as f:
            got = json.load(f)
        if got["bytes"] != case.bytes:
            sys.exit(f"shardweld compared {got['bytes']} bytes of {case.bytes}")
        return got["seconds_plan"] + got["seconds_compare"], got["peak_memory"]

    return run


def compare_verify(args, case):
    """What the program wrote against what it was made of."""
    shutil.rmtree(case.out, ignore_errors=True)
    shardweld(1, False)(case)
    field = [Contender("cat IN/* OUT/*", 1, lambda c: (cat(c), None), clears=True)]
    for np in (1, 2):
        field.append(Contender(f"shardweld verify, {np} rank{'s' * (np > 1)}", np, verify(np, *args.option), clears=True))
    for _ in range(args.best):
        for c in field:
            c.once(case)
    print(f"\n{case.layout}, {case.files} output file{'s' * (case.files > 1)}, {case.bytes / 2**30:.2f} GiB, verify, warm")
    print(f"  {'':<34}{'seconds':>9}{'median':>9}{'GB/s':>8}{'of cat':>10}{'peak MiB':>10}{'wall':>8}")
    for c in field:
        peak = f"{c.peak / 2**20:.0f}" if c.peak else ""
        print(f"  {c.name:<34}{c.best:>9.3f}{statistics.median(c.times):>9.3f}{case.bytes / c.best / 1e9:>8.2f}{c.best / field[0].best:>10.2f}{peak:>10}{c.wall:>8.2f}", flush=True)


def compare_cast(args, directory, layout):
    case = Case(directory, layout, 1, args.size, args.ranks, "F32")
    field = []
    for np in (1, 2):
        for piece in PIECES:
            field.append(Contender(f"limit, {np} process{'es' * (np > 1)}, bytes copied", np, limit(args.limit, np, False, piece, False)))
        run = shardweld(np, False, "--cast-dtype", "bf16", *args.option, becomes=0.5)
        field.append(Contender(f"shardweld, {np} rank{'s' * (np > 1)}, F32 to BF16", np, run))
    case.warm()
    order = random.Random(1)
    for _ in range(args.best):
        for c in order.sample(field, len(field)):
            c.once(case)
    field = merged(field)
    limits = {c.processes: c.best for c in field if c.name.startswith("limit")}
    print(f"\n{layout}, 1 output file, {case.bytes / 2**30:.2f} GiB of F32 to BF16, warm, no sync")
    print(f"  {'':<34}{'seconds':>9}{'median':>9}{'GB/s':>8}{'of limit':>10}{'peak MiB':>10}{'wall':>8}")
    for c in field:
        peak = f"{c.peak / 2**20:.0f}" if c.peak else ""
        print(f"  {c.name:<34}{c.best:>9.3f}{statistics.median(c.times):>9.3f}{case.bytes / c.best / 1e9:>8.2f}{c.best / limits[c.processes]:>10.2f}{peak:>10}{c.wall:>8.2f}", flush=True)
    shutil.rmtree(case.src)
    shutil.rmtree(case.out)


def merged(all_contenders):
    """The limits of several piece sizes are one."""
    out = {}
    for c in all_contenders:
        if c.name in out:
            out[c.name].times += c.times
            out[c.name].wall = min(out[c.name].wall, c.wall)
        else:
            out[c.name] = c
    return list(out.values())


def compare(args, case, cold):
    field = contenders(args, case.files, cold)
    case.warm()
    order = random.Random(1)  # what a run costs depends on the one before it: whose memory it gets
    for number in range(args.cold_best if cold else args.best):
        for c in order.sample(field, len(field)):
            if c.clears and number >= args.torch_best:
                continue
            if cold:
                case.cool()
            c.once(case)
    field = merged(field)
    limits = {c.processes: c.best for c in field if c.name.startswith("limit")}
    theirs = next((c.best for c in field if c.name == "torch"), None)
    state = "cold, synced" if cold else "warm, no sync"
    times = [{"name": c.name, "processes": c.processes, "seconds": c.times, "peak": c.peak} for c in field]
    args.kept.append({"layout": case.layout, "files": case.files, "bytes": case.bytes, "state": state, "contenders": times})
    print(f"\n{case.layout}, {case.files} output file{'s' * (case.files > 1)}, {case.bytes / 2**30:.2f} GiB, {state}")
    print(f"  {'':<34}{'seconds':>9}{'median':>9}{'GB/s':>8}{'of limit':>10}{'of torch':>10}{'peak MiB':>10}{'wall':>8}")
    for c in field:
        torchs = f"{theirs / c.best:.1f}x" if theirs and c.name.startswith("shardweld") else ""
        peak = f"{c.peak / 2**20:.0f}" if c.peak else ""
        ratio = c.best / limits[c.processes]
        print(f"  {c.name:<34}{c.best:>9.3f}{statistics.median(c.times):>9.3f}{case.bytes / c.best / 1e9:>8.2f}{ratio:>10.2f}{torchs:>10}{peak:>10}{c.wall:>8.2f}", flush=True)


def python_with_torch():
    path = os.environ.get("TORCH_PYTHON") or os.path.join(ROOT, "build", "venv", "bin", "python")
    if subprocess.run(["sh", "-c", '"$0" -c "import torch" 2>/dev/null', path], check=False).returncode == 0:
        return path
    print("no torch: set TORCH_PYTHON to a python that has it, to be compared with it")
    return None


def first(path, pattern):
    with open(path, encoding="utf-8") as f:
        return next((found.group(1) for found in map(re.compile(pattern).match, f) if found), "unknown")


def store_of(directory):
    """The file system that a directory is on."""
    words = output_of(["df", "--output=fstype", directory]).split()
    return words[-1]


def machine(directory):
    """Where it was measured, as far as it matters for who wants to compare."""
    memory = int(first("/proc/meminfo", r"MemTotal: +(\d+) kB")) >> 10
    cores, cpu = os.cpu_count(), first("/proc/cpuinfo", r"model name\s*: (.*)")
    return {"cores": cores, "cpu": cpu, "memory": f"{round(memory / 1024)} GiB", "store": store_of(directory), "system": f"{platform.system()} {platform.release().split('-')[0]}"}


def versions(args):
    """{who: version} of all that took part."""
    out = {"shardweld": output_of([runner.SHARDWELD, "--version"]).splitlines()[0].split()[1].rstrip(",")}
    for whose in args.peers:
        name = {"torch": "torch", "NeMo": "nemo_automodel"}[whose]
        ask = f"from importlib.metadata import version; print(version('{name}'))"
        out[whose] = output_of([args.torch, "-c", ask], {**os.environ, "PYTHONPATH": args.nemo or ""}).split("+")[0].strip()
    return out


def build_limit(directory):
    program = os.path.join(directory, "limit")
    output_of([os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O2", os.path.join(HERE, "limit.c"), "-o", program])
    return program


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2GiB", type=checkpoint.size_of, help="bytes of tensor data [2GiB]")
    parser.add_argument("--layouts", nargs="+", default=["rows", "columns", "grid"])
    parser.add_argument("--files", nargs="+", type=int, default=[1, 4], help="numbers of output files [1 4]")
    parser.add_argument("--ranks", type=int, default=8, help="ranks that saved the checkpoint [8]")
    parser.add_argument("--best", type=int, default=5, help="rounds of warm runs [5]")
    parser.add_argument("--torch-best", type=int, default=2, help="rounds that torch takes part in [2]")
    parser.add_argument("--cold-best", type=int, default=1, help="rounds of cold runs, 0 = none [1]")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--nemo", metavar="DIR", help="directory with the package nemo_automodel, to compare with its functions too")
    parser.add_argument("--only-weld", action="store_true", help="neither verify nor casts")
    parser.add_argument("--json", metavar="FILE", help="what was measured of welding")
    parser.add_argument("--option", action="append", default=[], help="another option for shardweld, e.g. --option=--buffer-size=8MiB")
    parser.add_argument("--dir", help="where the data go (2.1 times the size) [a directory under build/]")
    return parser.parse_args()


def scratch(where):
    """A directory for the data, which goes when all is done: there, or (None) under build/."""
    build = os.path.join(ROOT, "build")
    os.makedirs(build, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="bench-", dir=where or build, ignore_cleanup_errors=True)


def main():
    args = parse()
    with scratch(args.dir) as directory:
        args.limit = build_limit(directory)
        args.torch = None if args.no_torch else python_with_torch()
        args.peers = [] if not args.torch else ["torch", *(["NeMo"] if args.nemo else [])]
        args.kept = []
        load = os.getloadavg()[0]  # of others: nothing has run yet
        print(f"{os.cpu_count()} processors, best of {args.best}, in {directory}")
        for files in args.files:
            for layout in args.layouts:
                case = Case(directory, layout, files, args.size, args.ranks)
                compare(args, case, cold=False)
                if not args.only_weld:
                    compare_verify(args, case)
                if args.cold_best:
                    compare(args, case, cold=True)
                shutil.rmtree(case.src)
                shutil.rmtree(case.out)
        for layout in [] if args.only_weld else args.layouts:
            compare_cast(args, directory, layout)
        if args.json:
            about = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": {**machine(directory), "load": round(load, 1)}, "versions": versions(args), "ranks": args.ranks, "best": args.best, "torch_best": args.torch_best, "cases": args.kept}
            with open(args.json, "w", encoding="utf-8") as f:
                json.dump(about, f, indent=1)
                f.write("\n")


if __name__ == "__main__":
    main()
