#!/usr/bin/env python3
"""Write one tiny list of boxes for each rule that a list can break, into boxes/, and cases.txt beside them: name, words that the
message must hold. They speak of a file x.bin of 64 bytes; dangling is a link that leads nowhere, dir a directory."""

import json
import os

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boxes")
GOOD = {"name": "a", "dtype": "F32", "shape": [4, 2], "file": "x.bin", "offset": 8}


def box(offsets, shape):
    return {"offsets": offsets, "shape": shape}


def line(drop=(), **members):
    return json.dumps({k: v for k, v in {**GOOD, **members}.items() if k not in drop})


def half(i, **members):
    return line(box=box([2 * i, 0], [2, 2]), offset=8 + 16 * i, **members)


def cases():
    # the text
    yield "no_json", "boxes", "line 1, byte 0: expected an object"
    yield "cut", line()[:-5], "line 1, byte"
    yield "not_an_object", "[]", "expected an object"
    yield "two_on_a_line", line() + line(), "more text"
    yield "bad_utf8", b'{"name": "\xff"}', "bad UTF-8 at byte 10"
    yield "deep", '{"name": ' + "[" * 200, "expected a string"
    yield "huge_number", line().replace("8}", "9" * 400 + "}"), "line 1, byte"
    yield "fraction", line(offset=1.5), "a fraction"
    yield "negative", line(offset=-1), "a negative number"
    yield "over_2_63", line(offset=2**63 + 1), "a number over 2^63"
    yield "second_line", line(name="b") + "\n\n" + line(offset="8"), "line 3, byte"
    # members
    for member in GOOD:
        yield f"no_{member}", line(drop=[member]), f"line 1: it has no '{member}'"
    yield "unknown_member", line(stride=[2, 1]), "a member 'stride'"
    yield "twice", line()[:-1] + ', "offset": 8}', "two members 'offset'"
    yield "name_is_number", line(name=1), "expected a string"
    yield "name_with_nul", line(name="a\0b"), "holds a NUL"
    yield "shape_is_text", line(shape="4x2"), "expected an array"
    yield "many_dims", line(shape=[1] * 33), "more than 32 dimensions"
    yield "unknown_dtype", line(dtype="F31"), "unknown dtype 'F31'"
    yield "dtype_of_torch_alone", line(dtype="torch.qint8"), "unknown dtype 'torch.qint8'"
    # boxes
    yield "box_is_array", line(box=[]), "expected an object"
    yield "box_without_shape", line(box={"offsets": [0, 0]}), "lacks offsets or shape"
    yield "box_with_more", line(box={**box([0, 0], [4, 2]), "x": 1}), "a member 'x'"
    yield "box_of_other_dims", line(box=box([0], [4])), "another number of dimensions"
    yield "box_outside", line(box=box([1, 0], [4, 2])), "outside of its tensor"
    yield "box_overflows", line(box=box([2**63, 0], [2**63, 2])), "outside of its tensor"
    yield "gap", half(0), "no shard file holds the elements from offsets [2, 0]"
    yield "overlap", half(0) + "\n" + line(box=box([1, 0], [3, 2])), "overlap"
    yield "other_dtype", half(0) + "\n" + half(1, dtype="I32"), "line 2: another dtype than in line 1"
    yield "other_shape", half(0) + "\n" + half(1, shape=[5, 2]), "line 2: another shape than in line 1"
    yield "size_overflows", line(shape=[2**62, 4]), "overflows 64 bits"
    yield "offset_overflows", line(offset=2**63 - 8), "reach over 2^63"
    # strides
    yield "strides_of_other_dims", line(strides=[1]), "another number of strides"
    yield "strides_overflow", line(strides=[2**63, 1]), "reach over 2^63"
    yield "strides_negative", line(strides=[-2, 1]), "a negative number"
    yield "half_bytes_with_strides", line(dtype="F4", shape=[4, 4], strides=[8, 1]), "no whole bytes"
    yield "half_a_byte", line(dtype="F4", shape=[3, 1]), "no whole number of bytes"
    # files
    yield "past_the_end", line(offset=40), "found 64 bytes, but a box ends at 72"
    yield "past_the_end_by_strides", line(strides=[8, 1]), "found 64 bytes, but a box ends at 112"
    yield "far_outside", line(offset=2**62), "found 64 bytes"
    yield "no_such_file", line(file="y.bin"), "names it, but it is missing"
    yield "dangling_link", line(file="dangling"), "a link that leads nowhere"
    yield "a_directory", line(file="dir"), "a directory, not a file"
    yield "a_fifo", line(file="fifo"), "not a regular file"
    yield "above", line(file="../x.bin"), "'../x.bin' is not a relative path below"
    yield "above_in_the_middle", line(file="dir/../../x.bin"), "is not a relative path below"
    yield "absolute", line(file="/etc/hostname"), "'/etc/hostname' is not a relative path below"
    yield "empty_file_name", line(file=""), "the name of its file is empty"
    yield "empty_list", "\n", "names no tensor"


def main():
    os.makedirs(HERE, exist_ok=True)
    for old in os.listdir(HERE):
        os.remove(os.path.join(HERE, old))
    with open(os.path.join(HERE, "cases.txt"), "w", encoding="utf-8") as f:
        f.write("# name, words in the message; written by make_bad_boxes.py\n")
        for name, text, words in cases():
            with open(os.path.join(HERE, name + ".jsonl"), "wb") as out:
                out.write(text if isinstance(text, bytes) else text.encode())
            f.write(f"{name}\t{words}\n")


if __name__ == "__main__":
    main()
