#!/usr/bin/env python3
"""How fast a large header is parsed (bench_header: 330,000 tensors, 76 MB of JSON), beside Python's json and safetensors' safe_open on the
same bytes, in turns, in time of the processor (others on the machine do not count). Fails when it is less than 8 times as fast as json, or 3 times as safe_open, or takes over 64 MiB beyond the text.
Without safetensors the first has to do.

    bench/header.py BENCH_HEADER [ROUNDS]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time

try:
    from safetensors import safe_open
except ImportError:
    safe_open = None

TIMES = {"json": 8, "safe_open": 3}


def parse(program):
    """Ours; fails over the limit of memory."""
    done = subprocess.run([program, "--check", "330000", "1"], check=True, capture_output=True, text=True)
    return float(re.search(r"best ([0-9.]+) s", done.stdout)[1])


def by_json(path):
    """The header and the sharding info in it, as torch's reader does."""
    with open(path, "rb") as f:
        text = f.read(int.from_bytes(f.read(8), "little"))
    begin = time.process_time()
    assert json.loads(json.loads(text)["__metadata__"]["DCP_SHARDING_INFO"])
    return time.process_time() - begin


def by_safe_open(path):
    begin = time.process_time()
    with safe_open(path, "np") as f:
        assert f.keys()
    return time.process_time() - begin


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "large.safetensors")
        subprocess.run([program, "--write", path], check=True)
        ways = {"shardweld": lambda: parse(program), "json": lambda: by_json(path)}
        if safe_open:
            ways["safe_open"] = lambda: by_safe_open(path)
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(rounds):
            for name, way in ways.items():
                best[name] = min(best[name], way())
    failed = False
    for name, seconds in best.items():
        ratio, least = seconds / best["shardweld"], TIMES.get(name, 0)
        print(f"{name:>10} {seconds:7.3f} s {ratio:6.1f} times, at least {least}" if least else f"{name:>10} {seconds:7.3f} s")
        failed = failed or ratio < least
    sys.exit(failed and "bench: slower than that")


if __name__ == "__main__":
    main()
