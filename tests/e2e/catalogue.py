"""Large sharded checkpoints that take little room: real headers, data of holes."""

import json
import os

import oracle

ROWS = 4  # of each box
COLUMNS = 64
BOX = ROWS * COLUMNS * 2  # bytes, BF16


def names(tensors):
    return [f"model.layers.{i // 8}.mlp.experts.{i % 8}.up_proj.weight" for i in range(tensors)]


def make(directory, files, tensors):
    """FILES shard files of TENSORS matrices each, sharded by rows: files x tensors boxes."""
    os.makedirs(directory, exist_ok=True)
    order = sorted(names(tensors))
    entries = ",".join(
        f'"{n}":{{"dtype":"BF16","shape":[{ROWS},{COLUMNS}],"data_offsets":[{i * BOX},{(i + 1) * BOX}]}}'
        for i, n in enumerate(order)
    )
    # The sharding info is JSON in a JSON string: only its offsets differ from file to file.
    info = json.dumps(json.dumps({n: {"saved_offsets": ["@", 0]} for n in order}).replace('"@"', "@"))
    for i in range(files):
        text = '{"__metadata__":{"DCP_SHARDING_INFO":' + info.replace("@", str(i * ROWS))
        text += ',"DCP_VERSION":"1.0","format":"pt"},' + entries + "}"
        raw = text.encode()
        raw += b" " * (-len(raw) % 8)
        with open(os.path.join(directory, oracle.shard_name(i + 1)), "wb") as f:
            f.write(len(raw).to_bytes(8, "little") + raw)
            f.truncate(8 + len(raw) + tensors * BOX)


def make_grid(directory, rows, columns):
    """One matrix in a grid of ROWS x COLUMNS boxes, a file for each."""
    os.makedirs(directory, exist_ok=True)
    for i in range(rows * columns):
        at = (i // columns * ROWS, i % columns * COLUMNS)
        head = oracle.header([("w", "BF16", (ROWS, COLUMNS), BOX)], oracle.shard_metadata({"w": at}))
        with open(os.path.join(directory, oracle.shard_name(i + 1)), "wb") as f:
            f.write(head)
            f.truncate(len(head) + BOX)
