"""What the ranks say to one another before the first byte is written: collectives.py [--ranks N ...].

A file and some tensors a rank are welded under a counter of MPI's calls (tests/mpi/collectives.c). For each number of ranks:
how many collectives there were on rank 0, and of each kind how many and the bytes that it held of them afterwards.
"""

import argparse
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import catalogue  # noqa: E402
import runner  # noqa: E402


def count(directory, ranks, files, tensors, nodes):
    source, out, counts = (os.path.join(directory, name) for name in ("in", "out", "counts"))
    for path in (source, out):
        shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(counts):
        os.unlink(counts)
    catalogue.make(source, files, tensors)
    env = {"SHARDWELD_COLLECTIVES": counts, "LD_PRELOAD": ":".join(preloaded(directory, nodes)), "SHARDWELD_NODES": str(nodes)}
    result = runner.run(["consolidate", source, out], np=ranks, env=env, timeout=600)
    if result.status:
        sys.exit(runner.show(result))
    with open(counts) as f:
        lines = [line.split() for line in f]
    return next(line[2:] for line in lines if line[:2] == ["open", "0"])


def preloaded(directory, nodes):
    """Under names without blanks, which part the names of such a list."""
    for name in ["collectives"] + ["nodes"] * (nodes > 1):
        link = os.path.join(directory, name + ".so")
        if not os.path.islink(link):
            os.symlink(os.path.join(os.path.dirname(runner.SHARDWELD), "tests", name + ".so"), link)
        yield link


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--files", type=int, default=0, help="[as many as ranks]")
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=1, help="ranks are told that they are on so many")
    args = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="collectives-", dir="/tmp")
    try:
        for ranks in args.ranks:
            total, *kinds = count(directory, ranks, args.files or ranks, args.tensors, args.nodes)
            print(f"{ranks:>6} ranks{total:>5}  {' '.join(kinds)}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
