"""Our header parser against the reference library: the same files are accepted, with the same contents, and the same
refused. Where we are stricter it is for one of the reasons that reasons() finds, by other means than ours.

HEADER_CHECK names the program (tests/torch/header_check.c). HEADER_SEED and HEADER_CASES vary the random part."""

import json
import os
import random
import re
import struct
import subprocess

import pytest

safetensors = pytest.importorskip("safetensors")

SEED = int(os.environ.get("HEADER_SEED", "20250101"))
CASES = int(os.environ.get("HEADER_CASES", "6000"))
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def file_bytes(header, data_len=0):
    raw = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw + bytes(data_len)


# ---- the reference ------------------------------------------------------------------------------------------------


def reference(raw, path):
    """The tensors as {name: (dtype, shape, bytes)}, or None. Both of its ways in must agree."""
    try:
        tensors = {name: (t["dtype"], t["shape"], len(t["data"])) for name, t in safetensors.deserialize(raw)}
    except safetensors.SafetensorError:
        tensors = None
    try:
        with safetensors.safe_open(path, framework="np") as f:
            names = set(f.keys())
    except (safetensors.SafetensorError, OSError, ValueError):
        # OSError, ValueError: an empty file cannot be mapped
        names = None
    assert (tensors is None) == (names is None), f"deserialize and safe_open disagree about {raw!r}"
    assert tensors is None or names == set(tensors)
    return tensors


# ---- why we may refuse what it accepts -----------------------------------------------------------------------------


class NotPlain(Exception):
    pass


def whole(text):
    """Whole numbers keep their sign, as -0 is none of ours."""
    return float("nan") if text.startswith("-") else int(text)


def refuse_constant(text):
    raise NotPlain(text)


def finite(text):
    if float(text) in (float("inf"), float("-inf")):
        raise NotPlain(text)
    return float(text)


def load(text, found):
    """JSON with duplicates noted in found."""

    def pairs(items):
        if len({k for k, _ in items}) != len(items):
            found.add("duplicate")
        return Object(items)

    return json.loads(text, object_pairs_hook=pairs, parse_int=whole, parse_constant=refuse_constant, parse_float=finite)


class Object(list):
    """The members of an object, all of them."""

    def last(self, key, default=None):
        return next((v for k, v in reversed(self) if k == key), default)


def is_dims(value, ndim):
    return (
        type(value) is list
        and len(value) == ndim
        and all(type(n) is int and n <= 2**63 for n in value)
    )


def nesting(text):
    depth = deepest = 0
    for c in re.sub(r'"(\\.|[^"\\])*"', "", text, flags=re.S):
        depth += (c in "[{") - (c in "]}")
        deepest = max(deepest, depth)
    return deepest


def bad_box(box, entry):
    shape = entry.last("shape")
    if not isinstance(box, Object) or not is_dims(box.last("saved_offsets"), len(shape)):
        return True
    ends = [a + b for a, b in zip(shape, box.last("saved_offsets"))]
    if any(e > 2**63 for e in ends):
        return True
    if not any(k == "global_shape" for k, _ in box):
        return False
    full = box.last("global_shape")
    return not is_dims(full, len(shape)) or (0 not in shape and any(e > n for e, n in zip(ends, full)))


def bad_sharding(meta, entries, found):
    version = meta.last("DCP_VERSION")
    if version is not None and not re.fullmatch(r"1(\.[0-9]+)*", version, flags=re.A):
        return True
    text = meta.last("DCP_SHARDING_INFO")
    try:
        info = load(text, found)
        json.dumps(info, ensure_ascii=False).encode()
    except (ValueError, NotPlain, RecursionError):
        return True
    if not isinstance(info, Object) or nesting(text) > 127:
        return True
    boxes = dict(info)
    return any(name not in boxes or bad_box(boxes[name], entry) for name, entry in entries)


def reasons(raw):
    """Why we refuse a file that the reference accepts: a set, empty when we have to accept it."""
    length = struct.unpack("<Q", raw[:8])[0]
    found = set()
    root = load(raw[8 : 8 + length].decode(), found)
    entries = [(k, v) for k, v in root if k != "__metadata__"]
    for name, entry in entries:
        if not isinstance(entry, Object):
            found.add("array")
            continue
        if "\0" in name:
            found.add("nul")
        if len(entry.last("shape")) > 32:
            found.add("dims")
        if any(n > 2**63 for n in entry.last("shape") + entry.last("data_offsets")):
            found.add("number")
    meta = root.last("__metadata__")
    if meta is not None and meta.last("DCP_SHARDING_INFO") is not None and not found:
        if bad_sharding(meta, entries, found):
            found.add("sharding")
    return found


# ---- ours ----------------------------------------------------------------------------------------------------------


def ours(paths):
    """For each path the tensors, like reference(), or the message."""
    done = subprocess.run(
        [os.environ["HEADER_CHECK"], "--dump"], input="".join(f"{p}\n" for p in paths), capture_output=True,
        text=True, timeout=600, check=True, errors="replace",
    )  # fmt: skip
    results, tensors = [], {}
    for line in done.stdout.splitlines():
        if line.startswith("="):
            name, dtype, begin, end, *dims = line[1:].split(" ")
            dims = [int(n) for n in (dims[: dims.index("@")] if "@" in dims else dims)]
            tensors[bytes.fromhex(name).decode()] = (dtype, dims, int(end) - int(begin))
        else:
            results.append(tensors if line == "ok" else line)
            tensors = {}
    assert len(results) == len(paths)
    return results


def compare(cases, tmp_path):
    """cases: bytes of files. Returns how often each outcome occurred."""
    paths, counts = [], {"accepted": 0, "refused": 0}
    for i, raw in enumerate(cases):
        paths.append(tmp_path / f"{i}.safetensors")
        paths[-1].write_bytes(raw)
    for raw, path, result in zip(cases, paths, ours(paths)):
        theirs = reference(raw, path)
        why = reasons(raw) if theirs is not None else set()
        for key in why or {"refused" if theirs is None else "accepted"}:
            counts[key] = counts.get(key, 0) + 1
        if theirs is None or why:
            assert isinstance(result, str) and result.startswith("no: "), f"accepted, {why or 'refused there'}: {raw!r}"
        else:
            assert result == theirs, f"{raw!r}"
    return counts


# ---- written by hand -----------------------------------------------------------------------------------------------

BYTE = '"dtype":"U8","shape":[1],"data_offsets":[0,1]'


def one(more="", shape="[1]", offsets="[0,1]", dtype='"U8"', name="a"):
    return '{"%s":{"dtype":%s,"shape":%s,"data_offsets":%s%s}}' % (name, dtype, shape, offsets, more)


def values():
    """Any value, as an unknown member: (text of a file of one byte)."""
    yield from (
        "0 -0 -1 1.5 1.0 1e2 1E2 1e+2 1e-2 -1e-2 01 -01 00 - -- 1. .5 +1 1e 1e+ 1.e5 0x1 NaN Infinity -Infinity true "
        'True tru nulll null false [] {} [1,] [,1] {"a":1,} {1:2} {"a"} {"a":1,"b":2} [1 2] [[] {{} ]'
    ).split(" ")
    yield from ('"a" "b"', "", " ", "\t1\r\n", "\f1", "\v1", "\xa01", "/**/1", "'a'", "1//", '{"a":1,"a":2}')
    for digits in ("1", "9", "17976931348623157", "17976931348623158", "1797693134862315707", "18446744073709551615",
                   "18446744073709551616", "12345678901234567890123"):  # fmt: skip
        for e in (*range(284, 312), 400, 2147483647, 2147483648, 99999999999999999999):
            yield f"{digits}e{e}"
            yield f"-{digits[0]}.{digits[1:] or 0}E+{e}"
        yield f"{digits}e-99999999999"
    yield from ("0e999", "0.0e999", "0e99999999999999999999", "1.7976931348623157e308", "1.7976931348623158e308",
                "1.7976931348623159e308", "18446744073709551616.5e288", "9" * 308, "9" * 309, "1" + "0" * 308,
                "1" + "0" * 309, "9" * 400 + "e-200", "0." + "0" * 399 + "1e400", "0." + "0" * 399 + "1e709",
                "-9223372036854775808", "-9223372036854775809", "0." + "9" * 40 + "e308", "1" * 30 + "." + "1" * 30)  # fmt: skip
    for n in (124, 125, 126, 127, 128, 5000):
        yield "[" * n + "]" * n
        yield '{"x":' * n + "1" + "}" * n


def strings():
    yield from (r"\"\\\/\b\f\n\r\t", r"\u0000", r"\u0041\u00e9\u20ac", r"\ud834\udd1e", r"\uD834\uDD1E", r"\ud834", r"\ud834x",
                r"\ud834\n", r"\ud834\u0041", r"\ud834\ud834", r"\udd1e", r"\udd1e\ud834", r"\uDBFF\uDFFF", r"\x", r"\u12",
                r"\u12g4", r"\U0041", r"\'", "\\", "\\u", "\x7f", "\x80", "\u2028", "\U0010ffff", "\ufeff", "\ufffe")  # fmt: skip
    yield from (chr(c) for c in range(0x20))


def bad_utf8():
    for raw in (b"\xff", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
                b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xf0\x90\x80"):  # fmt: skip
        yield b'{"%s":{%s}}' % (raw, BYTE.encode())
        yield b'{"__metadata__":{"k":"%s"},"a":{%s}}' % (raw, BYTE.encode())


def empties():
    def empty(name, at, shape="[0]"):
        return f'"{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{at},{at}]}}'

    def data(name, begin, end):
        return f'"{name}":{{"dtype":"U8","shape":[{end - begin}],"data_offsets":[{begin},{end}]}}'

    sets = [
        [empty("z", 0)], [empty("z", 1)], [empty("z", 0), empty("y", 0)], [empty("z", 0), data("a", 0, 4)],
        [empty("z", 4), data("a", 0, 4)], [empty("z", 2), data("a", 0, 4)], [empty("z", 5), data("a", 0, 4)],
        [data("a", 0, 4), empty("z", 4), data("b", 4, 8), empty("y", 4, "[3,0,7]"), empty("x", 4)],
        [data("a", 0, 4), data("b", 0, 4)], [data("a", 0, 4), data("b", 3, 8)], [data("a", 0, 4), data("b", 5, 8)],
        [data("a", 0, 4), data("b", 2, 4)], [data("a", 0, 8), data("b", 2, 4)], [data("a", 0, 8), data("b", 2, 4), data("c", 4, 8)],
        [data("a", 2, 8)], [data("a", 0, 4), data("b", 0, 2), data("c", 2, 8)], [data("a", 0, 7)], [data("a", 0, 9)], [],
        [data("a", 0, 4), empty("z", 0), data("b", 4, 8), empty("y", 3)],
    ]  # fmt: skip
    for members in sets:
        for data_len in (0, 1, 4, 8):
            for order in (members, members[::-1]):
                yield file_bytes("{" + ",".join(order) + "}", data_len)


def shapes():
    big, m = 2**63, 2**64 - 1
    dims = ([], [1], [0], [big, big, 0], [0, big, big], [big, 0, big], [big, 2, 0], [m, 0], [m, 1, 0], [m + 1, 0], [2**32, 2**32],
            [2**32, 2**32, 0], [2**61], [2**61 - 1], [2**60], [m, 8, 0], [0, m], [0] * 32, [0] * 33, [1] * 32, [1] * 33,
            [big + 1, 0], [big, 0], [2**31, 2**31, 2, 0], [-1], [-1, -1], [2], [3], [4], [7], [8])  # fmt: skip
    for d in dims:
        for dtype in ("U8", "F32", "F4", "F6_E2M3"):
            for n in {0, 1, 2, 3, 4}:
                yield one(shape=str(d), offsets=f"[0,{n}]", dtype=f'"{dtype}"'), n
    for shape in ("[-0]", "[0.0]", "[1.0]", "[1e0]", "[01]", "null", "1", '"1"', "{}", '["1"]', "[true]", "[null]", "[[1]]", "[1,]",
                  "[]", "[1.0e0]", "[ 1 ]", "[1}", "[0e0]", "[18446744073709551616]", "[+1]"):  # fmt: skip
        for n in (0, 1):
            yield one(shape=shape, offsets=f"[0,{n}]"), n
    for offsets in ("[0]", "[]", "[0,1,2]", "[1,0]", "[0,1.0]", "[0,-1]", "[-0,1]", "[0,1e0]", "[0,01]", "null", "{}", '{"0":0}',
                    '"01"', '["0","1"]', "[0,[1]]", "[0,1,]", "[ 0 , 1 ]", "[0,18446744073709551615]",
                    "[18446744073709551615,18446744073709551616]", "[9223372036854775809,9223372036854775810]",
                    "[0,null]", "[0 1]"):  # fmt: skip
        yield one(offsets=offsets), 1
    for dtype in (*BITS, "bf16", "F", "F8", "", "U8 ", r"U8\u0000", r"\u00558", "C128", "F8_E4M3FN"):
        yield one(dtype=f'"{dtype}"', offsets="[0,1]"), 1
        yield one(dtype=f'"{dtype}"', shape="[4]", offsets=f"[0,{BITS.get(dtype, 8) // 2}]"), BITS.get(dtype, 8) // 2
    for dtype in ("null", "8", "true", "[]", '["U8"]', "{}", '{"U8":null}', '{"U8":{}}', '{"U8":[]}', '{"U8":""}', '{"U8":0}',
                  '{"U8":null,"U8":null}', '{"U8":null,}', '{"U9":null}', '{"U8"}', '{ "U8" : null }', '{"U8":nul}'):  # fmt: skip
        yield one(dtype=dtype), 1


def members():
    dtype, shape, offsets = BYTE.split(',"', 2)
    parts = [dtype, '"' + shape, '"' + offsets]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 1], [0, 2], [1, 2], [0], [], [0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2]):
        yield '{"a":{%s}}' % ",".join(parts[i] for i in order)
    yield '{"a":{%s,"x":1,"x":1}}' % BYTE
    yield '{"a":{%s,"x":[{"y":1,"y":1}]}}' % BYTE
    yield '{"a":{%s},"a":{%s}}' % (BYTE, BYTE)
    yield '{"a":{%s},"\\u0061":{%s}}' % (BYTE, BYTE)
    yield '{"a":["U8",[1],[0,1]]}'
    yield '{"a":["U8",[1],[0,1],0]}'
    yield '{"a":["U8",[1]]}'
    yield '{"a":[]}'
    for v in ("null", "1", '"x"', "true", "{}"):
        yield '{"a":%s}' % v
    for name in ("", " ", r"\u0000", r"a\u0000b", r"\"", "é", "__metadata", "__metadata__ ", "1", "\u4e2d"):
        yield one(name=name)
    yield r'{"a":{"d\u0074ype":"U8","shape":[1],"data_offsets":[0,1]}}'
    yield r'{"a":{"dtype\u0000":"U8","shape":[1],"data_offsets":[0,1]}}'
    yield '{"a":{"dtype ":"U8","shape":[1],"data_offsets":[0,1]}}'


def metadata():
    for value in ("null", "{}", "[]", "1", '"x"', "nul", '{"a":"b"}', '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":["b"]}',
                  '{"a":"b","a":"c"}', r'{"a":"\u0000","\u0000":""}', '{"":""}', '{"a":"b",}', '{"a"}', '{1:"a"}', "[null]"):  # fmt: skip
        for key in ("__metadata__", r"\u005f_metadata__", "__metadata"):
            yield '{"%s":%s,"a":{%s}}' % (key, value, BYTE)
            yield '{"a":{%s},"%s":%s}' % (BYTE, key, value)
        yield '{"__metadata__":%s,"__metadata__":%s,"a":{%s}}' % (value, value, BYTE)


def wholes():
    yield from ("", " ", "{", "}", "{}", " {} ", "\t\r\n{}", "{}\n", "{}\f", "{}\0", "{} x", "{}{}", "[]", "null", "1", '"a"', "[{}]",
                "[null,{}]", "\ufeff{}", "{}\ufeff", "{,}", '{"a"', '{"a":', "\0{}", "{}\v")  # fmt: skip


def lengths():
    raw = file_bytes(one(), 1)
    yield from (raw[:n] for n in range(len(raw)))
    for n in (0, 1, 52, 54, 55, 2**31, 2**32, 100_000_000, 100_000_001, 2**63, 2**64 - 8, 2**64 - 1):
        yield struct.pack("<Q", n) + raw[8:]
    yield raw + b"\0"
    yield file_bytes(one() + " " * 100, 1)


def sharding():
    box = '{"a":{"saved_offsets":[0]}}'
    infos = [
        box, "", " ", "no", "[]", "null", "{}", box + "x", box + "\0", " " + box + "\n", '{"a":{}}', '{"a":null}', '{"a":[0]}',
        '{"a":{"saved_offsets":null}}', '{"a":{"saved_offsets":[]}}', '{"a":{"saved_offsets":[0,0]}}', '{"a":{"saved_offsets":0}}',
        '{"a":{"saved_offsets":[-1]}}', '{"a":{"saved_offsets":[-0]}}', '{"a":{"saved_offsets":[0.0]}}', '{"a":{"saved_offsets":[1e0]}}',
        '{"a":{"saved_offsets":["0"]}}', '{"a":{"saved_offsets":[9223372036854775807]}}', '{"a":{"saved_offsets":[9223372036854775808]}}',
        '{"a":{"saved_offsets":[18446744073709551615]}}', '{"a":{"saved_offsets":[0],"saved_offsets":[0]}}', '{"a":{"saved_offsets":[00]}}',
        '{"a":{"saved_offsets":[0]},"a":{"saved_offsets":[0]}}', '{"b":1,"a":{"saved_offsets":[0]},"b":1}', '{"a":{"saved_offsets":[0],}}',
        '{"b":NaN,"a":{"saved_offsets":[0]}}', '{"b":1e999,"a":{"saved_offsets":[0]}}', '{"b":"\\ud800","a":{"saved_offsets":[0]}}',
        '{"a":{"saved_offsets":[3],"global_shape":[4]}}', '{"a":{"saved_offsets":[3],"global_shape":[3]}}',
        '{"a":{"saved_offsets":[0],"global_shape":null}}', '{"a":{"saved_offsets":[0],"global_shape":[1,1]}}',
        '{"a":{"global_shape":[4],"saved_offsets":[3],"x":{"y":[1,{}]}}}', '{"a":{"saved_offsets":[0],"x":1,"x":2}}',
        '{"\\u0061":{"saved_offsets":[0]}}', "{'a':{'saved_offsets':[0]}}", '{"A":{"saved_offsets":[0]}}',
        '{"b":' + "[" * 126 + "]" * 126 + ',"a":{"saved_offsets":[0]}}', '{"b":' + "[" * 127 + "]" * 127 + ',"a":{"saved_offsets":[0]}}',
        '{"a":{"saved_offsets":[0]}}\ufeff', '{"é":{},"a":{"saved_offsets":[0]}}',
    ]  # fmt: skip
    for info in infos:
        for version in (None, "1", "1.0", "1.2.3"):
            meta = {"DCP_SHARDING_INFO": info, **({"DCP_VERSION": version} if version else {}), "format": "pt"}
            text = json.dumps(meta, ensure_ascii=version == "1")
            yield '{"__metadata__":%s,"a":{%s}}' % (text, BYTE)
            yield '{"a":{%s},"__metadata__":%s}' % (BYTE, text)
    for version in ("", "2", "0", "10", "1.", "1.x", "1.0 ", " 1", "v1", "1..0", "1.0\0", "\u0661", "1.\u0661"):
        yield '{"__metadata__":%s,"a":{%s}}' % (json.dumps({"DCP_SHARDING_INFO": box, "DCP_VERSION": version}), BYTE)
        yield '{"__metadata__":%s,"a":{%s}}' % (json.dumps({"DCP_VERSION": version}), BYTE)
    meta = json.dumps({"DCP_SHARDING_INFO": '{"a":{"saved_offsets":[9,9],"global_shape":[9,1]}}'})
    for shape in ("[0,1]", "[1,0]", "[0,9]"):
        yield one(shape=shape, offsets="[0,0]")[:-1] + ',"__metadata__":%s}' % meta


def by_hand():
    yield from (file_bytes(one(f',"x":{v}'), 1) for v in values())
    yield from (file_bytes(one(f',"x":"{s}"'), 1) for s in strings())
    yield from (file_bytes(one(name=s), 1) for s in strings())
    yield from (file_bytes('{"__metadata__":{"%s":"%s"},"a":{%s}}' % (s, s, BYTE), 1) for s in strings())
    yield from (file_bytes(raw, 1) for raw in bad_utf8())
    yield from empties()
    yield from (file_bytes(text, n) for text, n in shapes())
    yield from (file_bytes(text, n) for text in members() for n in (0, 1))
    yield from (file_bytes(text, n) for text in metadata() for n in (0, 1))
    yield from (file_bytes(text, n) for text in wholes() for n in (0, 1))
    yield from lengths()
    yield from (file_bytes(text, n) for text in sharding() for n in (0, 1))


def test_by_hand(tmp_path):
    counts = compare(list(by_hand()), tmp_path)
    print(counts)
    for key in ("accepted", "refused", "duplicate", "array", "nul", "dims", "number", "sharding"):
        assert counts.get(key, 0) > 0, key


# ---- by chance -----------------------------------------------------------------------------------------------------

TOKENS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"0", b"1", b"-", b".", b"e", b"9", b"null", b"true", b"\x00", b"\xff", b"\x80",
    b"\xc3\xa9", b"\\u0000", b"\\ud834\\udd1e", b"\\ud800", b"[]", b"{}", b'"a":', b'"dtype":"U8"', b'"shape":[0]', b'"data_offsets":[0,0]',
    b'"__metadata__":', b"9223372036854775808", b"18446744073709551615", b"1e308", b"1e309", b"\\\"saved_offsets\\\":[0]", b"U8", b"F4", b"\n",
]  # fmt: skip


def random_header(rng):
    """A valid header and the length of its data."""
    entries, at = {}, 0
    for i in range(rng.randrange(5)):
        dtype = rng.choice(list(BITS))
        shape = [rng.choice((0, 1, 2, 3, 8)) for _ in range(rng.randrange(4))]
        bits = BITS[dtype]
        for n in shape:
            bits *= n
        if bits % 8:
            shape, bits = [*shape, 4], bits * 4
        name = rng.choice(("a", "model.layers.0.", "é", "w", "")) + str(i)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + bits // 8]}
        at += bits // 8
        if rng.random() < 0.2:
            entries[name]["more"] = rng.choice((1, -1.5e10, None, True, [], {"x": [1, {"y": "z"}]}, "\U0001f600"))
    items = list(entries.items())
    rng.shuffle(items)
    if rng.random() < 0.6:
        meta = {"format": "pt"} if rng.random() < 0.5 else {}
        if rng.random() < 0.7:
            boxes = {n: {"saved_offsets": [rng.randrange(4) for _ in e["shape"]]} for n, e in items}
            rng.shuffle(order := list(boxes.items()))
            meta["DCP_SHARDING_INFO"] = json.dumps(dict(order))
            meta["DCP_VERSION"] = rng.choice(("1", "1.0"))
        items.insert(rng.randrange(len(items) + 1), ("__metadata__", meta))
    text = json.dumps(dict(items), ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1)))
    return text.encode(), at


def mutate(rng, raw):
    a, b = sorted((rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1)))
    b = min(b, a + rng.choice((1, 1, 2, 8, 40)))
    kind = rng.randrange(7)
    if kind == 0:
        return raw[:a] + raw[b:]
    if kind == 1:
        return raw[:a] + rng.choice(TOKENS) + raw[a:]
    if kind == 2:
        return raw[:a] + rng.choice(TOKENS) + raw[b:]
    if kind == 3:
        return raw[:b] + raw[a:b] + raw[b:]
    if kind == 4:
        return raw[:a] + bytes([rng.randrange(256)]) + raw[a + 1 :]
    numbers = list(re.finditer(rb"\d+", raw))
    if kind == 5 and numbers:
        m = rng.choice(numbers)
        n = rng.choice((0, 1, 2, 3, 2**31, 2**63, 2**63 + 1, 2**64, int(m[0]) + 1, max(int(m[0]) - 1, 0)))
        return raw[: m.start()] + str(n).encode() + raw[m.end() :]
    words = list(re.finditer(rb'\\?"[^"\\]*\\?"', raw))
    if words:
        m, n = rng.choice(words), rng.choice(words)
        return raw[: m.start()] + n[0] + raw[m.end() :]
    return raw


def random_case(rng):
    raw, data_len = random_header(rng)
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
        raw = mutate(rng, raw)
    return file_bytes(raw, data_len)


def test_random(tmp_path):
    print(f"HEADER_SEED={SEED} HEADER_CASES={CASES}")
    rng = random.Random(SEED)
    counts = compare([random_case(rng) for _ in range(CASES)], tmp_path)
    print(counts)
    assert counts["accepted"] > CASES // 10 and counts["refused"] > CASES // 10
