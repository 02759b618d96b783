#!/usr/bin/env python3
"""Write the seeds of fuzz_header: small valid files that between them use every rule of the grammar."""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
BITS = {"F4": 4, "F6_E3M2": 6, "F6_E2M3": 6, "BOOL": 8, "U8": 8, "F8_E4M3": 8, "BF16": 16, "F32": 32, "C64": 64}


def entries(*tensors):
    """(name, dtype, shape) one after the other; returns the members and the bytes of data."""
    out, at = {}, 0
    for name, dtype, shape in tensors:
        bits = BITS[dtype]
        for n in shape:
            bits *= n
        out[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + bits // 8]}
        at += bits // 8
    return out, at


def write(name, text, data_len):
    raw = text if isinstance(text, bytes) else text.encode()
    with open(os.path.join(HERE, "header_seeds", name), "wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw + bytes(data_len))


def sharded(members, info, **more):
    meta = {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "format": "pt", **more}
    return {"__metadata__": meta, **members}


def main():
    os.makedirs(os.path.join(HERE, "header_seeds"), exist_ok=True)
    compact = {"separators": (",", ":"), "ensure_ascii": False}
    write("empty", "{}", 0)
    write("null_metadata", ' { "__metadata__" : null } ', 0)
    m, n = entries(("a.weight", "F32", [2, 3]), ("b", "BF16", [4]), ("scalar", "BOOL", []), ("none", "U8", [0, 7]))
    write("plain", json.dumps(m, **compact), n)
    write("reversed", json.dumps(dict(reversed(m.items())), indent=1), n)
    m, n = entries(("x", "F4", [2]), ("y", "F6_E3M2", [4]), ("z", "F6_E2M3", [2, 2]), ("c", "C64", [1]))
    write("small_types", json.dumps(m, **compact), n)
    m, n = entries(("m.\u00e9\u4e2d\U0001d11e", "F8_E4M3", [3]))
    write("names", json.dumps(m, **compact), n)
    write("escaped_names", json.dumps(m), n)
    m, n = entries(("a", "U8", [1]))
    m["a"].update({"more": [1.5, -2e-3, True, None, {"k": "\t\u0000", "l": [[], {}]}], "dtype": {"U8": None}})
    write("unknown_members", json.dumps(m), n)
    m, n = entries(("w", "BF16", [2, 3]), ("v", "F32", [1]), ("s", "F32", []))
    info = {"w": {"saved_offsets": [4, 0]}, "v": {"saved_offsets": [7]}, "s": {"saved_offsets": []}}
    write("sharded", json.dumps(sharded(m, info), **compact), n)
    info = {"s": {"saved_offsets": []}, "other": [1], "v": {"saved_offsets": [7], "global_shape": [8], "x": {}},
            "w": {"global_shape": [9, 3], "saved_offsets": [4, 0]}}
    tail = dict(reversed(sharded(m, info).items()))
    write("sharded_other_order", json.dumps(tail, **compact), n)
    write("nested", '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":' + "[" * 125 + "]" * 125 + "}}", 0)


if __name__ == "__main__":
    main()
