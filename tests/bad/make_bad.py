#!/usr/bin/env python3
"""Write one tiny safetensors file for each rule that a single file can break, and cases.txt beside them:
name, exit status of the program, words that its message must hold."""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
EINPUT = 3
BYTE = '"dtype":"U8","shape":[1],"data_offsets":[0,1]'
BOX = {"a": {"saved_offsets": [0]}}


def framed(header, data_len=0, length=None):
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data_len)


def entry(dtype="U8", shape="[1]", offsets="[0,1]", more=""):
    return '{"dtype":"%s","shape":%s,"data_offsets":%s%s}' % (dtype, shape, offsets, more)


def one(data_len=1, **fields):
    return framed('{"a":%s}' % entry(**fields), data_len)


def two(first, second, data_len):
    """Two tensors a and b of bytes, [begin, end] each."""
    both = [entry(shape=[e - b], offsets=[b, e]) for b, e in (first, second)]
    return framed('{"a":%s,"b":%s}' % tuple(both), data_len)


def sharded(info, **more):
    meta = {"DCP_SHARDING_INFO": info if isinstance(info, str) else json.dumps(info), "DCP_VERSION": "1.0", **more}
    return framed('{"__metadata__":%s,"a":{%s}}' % (json.dumps(meta), BYTE), 1)


def cases():
    # the frame
    yield "empty_file", b"", "a header length"
    yield "seven_bytes", bytes(7), "a header length"
    yield "length_past_end", framed("{}", length=3), "past the end of the file"
    yield "length_over_limit", framed("{}", length=100_000_001), "over the limit of 100000000 bytes"
    yield "length_huge", framed("{}", length=2**64 - 1), "over the limit"
    yield "no_header", framed(""), "unexpected end"
    yield "header_cut", framed('{"a":{%s}}' % BYTE, 1, length=30), "invalid at byte 30: unexpected end"
    # JSON
    yield "not_an_object", framed("[]"), "byte 0: expected an object"
    yield "text_behind", framed("{}x"), "byte 2: more text"
    yield "byte_order_mark", framed("\ufeff{}"), "byte 0: expected an object"
    yield "trailing_comma", framed('{"a":{%s},}' % BYTE, 1), "expected a string"
    yield "bad_utf8", framed(b'{"\xff":{%s}}' % BYTE.encode(), 1), "bad UTF-8 at byte 2"
    yield "overlong_utf8", framed(b'{"\xc0\xaf":{%s}}' % BYTE.encode(), 1), "bad UTF-8 at byte 2"
    yield "bad_escape", framed(r'{"\x61":{%s}}' % BYTE, 1), "a bad escape"
    yield "lone_surrogate", framed(r'{"\ud834":{%s}}' % BYTE, 1), "surrogate"
    yield "control_character", framed('{"a\n":{%s}}' % BYTE, 1), "a control character"
    yield "deep_nesting", one(more=',"x":' + "[" * 200 + "]" * 200), "nested more than 127 deep"
    yield "number_out_of_range", one(more=',"x":1e999'), "range of a double"
    # duplicates
    yield "duplicate_tensor", framed('{"a":{%s},"a":{%s}}' % (BYTE, BYTE), 1), "duplicate key 'a'"
    yield "duplicate_escaped", framed(r'{"a":{%s},"\u0061":{%s}}' % (BYTE, BYTE), 1), "duplicate key 'a'"
    yield "duplicate_member", one(more=',"dtype":"U8"'), "duplicate key 'dtype'"
    yield "duplicate_unknown", one(more=',"x":1,"x":1'), "duplicate key 'x'"
    yield "duplicate_metadata", framed('{"__metadata__":{},"__metadata__":{}}'), "duplicate key '__metadata__'"
    yield "duplicate_metadata_key", framed('{"__metadata__":{"k":"1","k":"1"}}'), "duplicate key 'k' in __metadata__"
    # entries
    yield "entry_array", framed('{"a":["U8",[1],[0,1]]}', 1), "tensor 'a': the entry is an array"
    yield "name_with_nul", framed(r'{"a\u0000":{%s}}' % BYTE, 1), "holds a NUL"
    yield "no_dtype", framed('{"a":{"shape":[1],"data_offsets":[0,1]}}', 1), "tensor 'a': the entry has no dtype"
    yield "no_shape", framed('{"a":{"dtype":"U8","data_offsets":[0,1]}}', 1), "has no shape"
    yield "no_data_offsets", framed('{"a":{"dtype":"U8","shape":[1]}}', 1), "has no data_offsets"
    yield "unknown_dtype", one(dtype="F31"), "tensor 'a': unknown dtype 'F31'"
    yield "many_dims", one(shape=[1] * 33), "more than 32 dimensions"
    yield "negative_dim", one(shape=[-1]), "a negative number"
    yield "fraction_dim", one(shape="[1.0]"), "a fraction"
    yield "exponent_dim", one(shape="[1e0]"), "an exponent"
    yield "leading_zero", one(shape="[01]"), "a leading zero"
    yield "dim_over_2_63", one(0, shape=[2**63 + 1, 0], offsets=[0, 0]), "a number over 2^63"
    yield "dim_is_text", one(shape='["1"]'), "expected a whole number"
    yield "negative_offset", one(offsets=[-1, 0]), "a negative number"
    yield "offset_over_2_63", one(offsets=[0, 2**63 + 1]), "a number over 2^63"
    yield "three_offsets", one(offsets=[0, 1, 2]), "not two numbers"
    yield "product_overflow", one(0, shape=[2**63, 2**63, 0], offsets=[0, 0]), "overflows 64 bits"
    yield "size_overflow", one(0, dtype="F64", shape=[2**61], offsets=[0, 0]), "overflows 64 bits"
    yield "size_mismatch", one(20, dtype="F32", shape=[2, 3], offsets=[0, 20]), "24 bytes, but data_offsets hold 20"
    yield "half_a_byte", one(2, dtype="F4", shape=[3], offsets=[0, 2]), "no whole number of bytes"
    # coverage
    yield "end_before_begin", one(offsets=[1, 0]), "data ends at 0, before it begins at 1"
    yield "starts_past_0", one(9, offsets=[8, 9]), "data begins at 8, expected 0: a hole of 8 bytes"
    yield "hole", two((0, 2), (3, 4), 4), "tensor 'b': data begins at 3, expected 2: a hole"
    yield "overlap", two((0, 4), (3, 6), 6), "tensor 'b': data begins at 3, expected 4: an overlap with tensor 'a'"
    yield "same_range", two((0, 4), (0, 4), 4), "an overlap"
    yield "bytes_at_end", one(9), "8 bytes at the end belong to no tensor"
    yield "data_cut", one(0), "tensor 'a': data ends at 1, but the file holds 0 bytes"
    # metadata and sharding info
    yield "metadata_array", framed('{"__metadata__":[]}'), "expected an object"
    yield "metadata_number", framed('{"__metadata__":{"k":1}}'), "a value of __metadata__ is not a string"
    yield "sharding_object", framed('{"__metadata__":{"DCP_SHARDING_INFO":{}}}'), "not a string"
    yield "sharding_no_json", sharded("{'a': 0}"), "DCP_SHARDING_INFO: invalid at byte 1"
    yield "sharding_lacks_tensor", sharded({}), "tensor 'a': DCP_SHARDING_INFO does not name this tensor"
    yield "sharding_no_offsets", sharded({"a": {}}), "tensor 'a': DCP_SHARDING_INFO: no saved_offsets"
    yield "sharding_dims", sharded({"a": {"saved_offsets": [0, 0]}}), "saved_offsets has 2 dimensions, the shape has 1"
    yield "sharding_negative", sharded({"a": {"saved_offsets": [-1]}}), "a negative number"
    yield "sharding_overflow", sharded({"a": {"saved_offsets": [2**63]}}), "shape + offset is over 2^63"
    yield "sharding_duplicate", sharded('{"a":{"saved_offsets":[0]},"a":{"saved_offsets":[0]}}'), "duplicate key"
    yield "sharding_outside", sharded({"a": {"saved_offsets": [3], "global_shape": [3]}}), "global_shape says 3"
    yield "sharding_global_dims", sharded({"a": {"saved_offsets": [0], "global_shape": [1, 1]}}), "global_shape has 2"
    yield "logical_number", sharded({"a": {"saved_offsets": [0], "logical_fqn": 1}}), "expected a string"
    yield "logical_nul", sharded({"a": {"saved_offsets": [0], "logical_fqn": "a\0b"}}), "logical_fqn holds a NUL"
    yield "logical_twice", sharded('{"a":{"saved_offsets":[0],"logical_fqn":"w","logical_fqn":"w"}}'), "duplicate key 'logical_fqn'"
    yield "dcp_version_2", sharded(BOX, DCP_VERSION="2.0"), "DCP_VERSION is '2.0', expected 1 or 1.x"


def main():
    lines = ["# name, exit status, words in the message; written by make_bad.py"]
    for name, raw, words in cases():
        assert len(raw) < 4096, name
        with open(os.path.join(HERE, name + ".safetensors"), "wb") as f:
            f.write(raw)
        lines.append(f"{name}.safetensors\t{EINPUT}\t{words}")
    with open(os.path.join(HERE, "cases.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
