"""Descriptions for the program that saves from memory, and how to run it.

What a rank holds is laid out in memory at random: packed, in another order of dimensions, with gaps, backwards.
"""

import json
import os
import subprocess

import numpy as np
import oracle
import runner

BUILD = os.environ.get("SHARDWELD_BUILD", os.path.join(runner.ROOT, "build"))
PROGRAM = os.path.join(BUILD, "tests", "save_items")


def strides_of(rng, shape, width, wild):
    """Strides in bytes, bytes of room that they take, and where the first element lies in it."""
    order = list(range(len(shape)))
    if wild:
        rng.shuffle(order)
    strides, room, first = [0] * len(shape), width, 0
    for d in reversed(order):
        strides[d] = room
        if wild and rng.random() < 0.25:
            first += room * (shape[d] - 1)
            strides[d] = -room
        room = room * shape[d] + (width * int(rng.integers(0, 3)) if wild else 0)
    return strides, room, first


def lay_out(rng, tensor, box):
    """A box in memory: (its bytes, where it begins, strides or None)."""
    bits = oracle.DTYPES[tensor.dtype]
    data = oracle.cut(tensor, box)
    if bits % 8 or not data or rng.random() < 0.3:
        return data, 0, None
    strides, room, first = strides_of(rng, box.shape, bits // 8, rng.random() < 0.7)
    block = np.frombuffer(bytearray(rng.bytes(room)), dtype=np.uint8)
    view = np.lib.stride_tricks.as_strided(block[first:], (*box.shape, bits // 8), (*strides, 1))
    view[...] = np.frombuffer(data, dtype=np.uint8).reshape(*box.shape, bits // 8)
    return block.tobytes(), first, strides


def describe(directory, tensors, boxes, rng):
    """Write the description of who holds what; boxes: {fqn: [Box, None or a list of them, for each rank]}. Its path."""
    os.makedirs(directory, exist_ok=True)
    items, blobs = [], {}
    for name, of_ranks in boxes.items():
        tensor = tensors[name]
        for rank, held in enumerate(of_ranks):
            for box in held if isinstance(held, list) else [held] if held else []:
                blob = blobs.setdefault(rank, bytearray(rng.bytes(int(rng.integers(0, 9)))))
                data, first, strides = lay_out(rng, tensor, box)
                items.append({
                    "rank": rank, "name": name, "dtype": tensor.dtype, "global_shape": tensor.shape, "offsets": box.offsets, "shape": box.shape,
                    "strides": strides, "file": os.path.join(directory, f"memory-{rank}"), "at": len(blob) + first,
                })  # fmt: skip
                blob += data
    for rank, blob in blobs.items():
        oracle.write(os.path.join(directory, f"memory-{rank}"), bytes(blob))
    path = os.path.join(directory, "items.json")
    oracle.write_json(path, items)
    return path


def edit(path, change):
    """change(items) of a description."""
    with open(path) as f:
        items = json.load(f)
    change(items)
    oracle.write_json(path, items)


def start(program, *args, np=None, env=None):
    """Any program, on so many ranks, to its end."""
    pipe = subprocess.PIPE
    command = [*runner.ranks(np), program, *map(str, args)]
    process = subprocess.Popen(command, env=runner.environment(env), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True)
    return runner.finish(process)


def save(kind, spec, out, *options, np=None, env=None):
    """kind: consolidated or shards."""
    return start(PROGRAM, kind, spec, out, *options, np=np, env=env)


def saved(result):
    assert result.status == 0 and result.stdout.startswith("ok ") and result.stderr == "", runner.show(result)
    return result


def refused(result, status, *words):
    assert result.status == status, f"expected status {status}; {runner.show(result)}"
    assert result.stdout.startswith("error ") and result.stdout.count("\n") == 1, runner.show(result)
    for word in words:
        assert word in result.stdout, f"{word!r} not in: {result.stdout}"
