#!/usr/bin/env python3
"""Write one tiny distributed checkpoint for each rule that one can break, each a directory below distcp/, and distcp/cases.txt
beside them: name, exit status of the program, then words that its message must hold, one a column.

Each is one or two boxes of one tensor, in items of one or two files, of which one thing is wrong."""

import os
import shutil
import struct
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import distcp  # noqa: E402
from distcp import Box, Call, Name, archive, item, tensor_pickle  # noqa: E402

TOP = os.path.join(HERE, "distcp")
EINPUT = 3
FILE = "__0_0.distcp"
SHAPE = (2, 2)
DATA = struct.pack("<4f", 1, 2, 3, 4)
# Run from nowhere; that the file is not there shows it.
SYSTEM = Call(Name("os", "system"), "touch pwned")
POPEN = Call(Name("subprocess", "Popen"), ["touch", "pwned"])


def put(name, data):
    with open(name, "wb") as f:
        f.write(data)


# ---- items: (name, bytes of the item, words) ------------------------------------------------------


def good(**wrong):
    return item("F32", SHAPE, DATA, **wrong)


def with_pickle(pkl):
    return good(pkl=pkl)


def tensor(**wrong):
    return with_pickle(tensor_pickle("F32", wrong.pop("shape", SHAPE), **wrong))


def patched(data, find, change, where=0):
    """A field of that many bytes behind the last place of a signature: what a hex editor would do."""
    at = data.rindex(find) + where
    return data[:at] + change + data[at + len(change) :]


def rebuilt(*args, function="_rebuild_tensor_v2"):
    """What makes a tensor, with these arguments."""
    return with_pickle(distcp.dumps(Call(Name("torch._utils", function), *args)))


def storage(name="FloatStorage", module="torch", key="0", numel=4):
    return distcp.Stored("storage", Name(module, name), key, "cpu", numel)


def overlapping():
    """The storage, with a header of its own, is a text of data.pkl."""
    path = b"archive/data/0"
    inner = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0, zlib.crc32(DATA), 16, 16, len(path), 0) + path + DATA
    words = (storage(), 0, SHAPE, (2, 1), False, inner)
    pkl = distcp.dumps(Call(Name("torch._utils", "_rebuild_tensor_v2"), *words), 4)
    return good(pkl=pkl, at={"data/0": 30 + len(b"archive/data.pkl") + pkl.index(inner)})


def plain_members():
    return [("data.pkl", tensor_pickle("F32", SHAPE)), ("byteorder", b"little"), ("data/0", DATA), ("version", b"3\n")]


ITEMS = [
    # the archive
    ("empty", b"", "its end is not that of a zip archive"),
    ("no_archive", b"not an archive" * 9, "its end is not that of a zip archive"),
    ("comment_behind", good()[:-2] + b"\x01\x00x", "its end is not that of a zip archive"),
    ("several_parts", patched(good(), b"PK\x05\x06", b"\x01\x00", 4), "several parts"),
    ("count_of_another_part", patched(good(), b"PK\x05\x06", b"\x01\x00", 8), "several parts"),
    ("directory_elsewhere", patched(good(), b"PK\x05\x06", b"\x00\x00\x00\x00", 16), "directory is not where it should be"),
    ("directory_too_long", patched(good(), b"PK\x05\x06", b"\xff\xff\xff\x00", 12), "directory is not where it should be"),
    ("directory_malformed", patched(good(), b"PK\x01\x02", b"PK\x01\x03"), "directory is malformed"),
    ("directory_cut_off", patched(good(), b"PK\x01\x02", b"\xff\x7f", 28), "directory is cut off"),
    ("extra_field_cut", patched(good(large=True), b"\x01\x00\x18\x00", b"\x01\x00\x19\x00"), "extra field in its directory is malformed"),
    ("extra_field_short", patched(good(large=True), b"\x01\x00\x18\x00", b"\x01\x00\x10\x00"), "extra field in its directory is malformed"),
    ("zip64_end_elsewhere", patched(good(large=True), b"PK\x06\x07", b"\x00" * 8, 8), "large end is not where it should be"),
    ("zip64_end_unsigned", patched(good(large=True), b"PK\x06\x06", b"PK\x06\x09"), "large end is not where it should be"),
    ("zip64_directory_huge", patched(good(large=True), b"PK\x06\x06", b"\xff" * 8, 40), "directory is not where it should be"),
    ("compressed", good(method=8), "a member is compressed"),
    ("another_method", good(method=93), "a member is compressed"),
    ("encrypted", good(flags=1), "a member is encrypted"),
    ("encrypted_strongly", good(flags=0x41), "a member is encrypted"),
    ("compressed_by_its_header", patched(good(), b"archive/data/0" + DATA, b"\x08\x00", -30 + 8), "compressed or encrypted"),
    ("header_elsewhere", good(at={"data/0": 7}), "header is not where it should be"),
    ("header_of_another_member", good(at={"data/0": 0}), "header is not where it should be"),
    ("outside", good(at={"data/0": 1 << 31}), "lies outside"),
    ("outside_64_bits", good(at={"data/0": 1 << 62}, large=True), "lies outside"),
    ("outside_overflow", good(at={"data/0": (1 << 64) - 30}, large=True), "lies outside"),
    ("checksum", good(crc=1), "checksum of member 'archive/data.pkl' is another"),
    ("byteorder_checksum", archive(plain_members(), crc=1, crc_of="byteorder"), "checksum of member 'archive/byteorder' is another"),
    ("big_endian", good(order=b"big"), "saved on a big-endian machine"),
    ("storage_longer", good(lie=4), "storage has another length"),
    ("storage_shorter", good(lie=-4), "storage has another length"),
    ("overlap", overlapping(), "two members of its item overlap"),
    ("two_of_one_name", archive([*plain_members(), ("data/0", DATA)]), "two members of one name"),
    ("no_data_pkl", archive(plain_members()[1:]), "its item has no data.pkl"),
    ("no_storage", archive(plain_members()[:2]), "its item has no storage"),
    # what data.pkl says
    ("another_dtype", item("I64", SHAPE, DATA * 2), "its item is I64, expected F32"),
    ("another_shape", tensor(shape=(4,)), "another shape than its box"),
    ("fewer_strides", tensor(strides=[1]), "another number of strides"),
    ("strides_outside", tensor(strides=[1 << 40] * 2), "elements outside of its storage"),
    ("strides_overflow", rebuilt(storage(), 0, (1 << 32, 1 << 32), ((1 << 59) - 1, (1 << 59) - 1), False, ()), "strides that are too large"),
    ("negative_stride", tensor(strides=[2, -1]), "has no size where one should be"),
    ("first_outside", tensor(first=1), "elements outside of its storage"),
    ("storage_too_large", tensor(numel=(1 << 59) - 1), "another length than its item says"),
    ("member_leads_out", tensor(key="../7"), "names no member of the archive"),
    ("member_of_long_name", tensor(key="7" * 40), "names no member of the archive"),
    ("member_missing", tensor(key="7"), "its item has no storage"),
    ("many_dims", rebuilt(storage(), 0, (1,) * 33, (1,) * 33, False, ()), "more than 32 dimensions"),
    ("few_arguments", rebuilt(storage(), 0), "too few arguments"),
    ("no_dtype", rebuilt(storage("UntypedStorage", "torch.storage", numel=16), 0, SHAPE, (2, 1), False, ()), "has no dtype"),
    ("lazily_conjugated", rebuilt(storage(), 0, SHAPE, (2, 1), False, (), {"conj": True}), "still to be conjugated or negated"),
    ("quantized_storage", tensor(storage="QInt8Storage"), "its storage is a torch.QInt8Storage, which safetensors does not have"),
    ("complex128_storage", tensor(storage="ComplexDoubleStorage"), "torch.ComplexDoubleStorage"),
    ("quantized_tensor", rebuilt(storage(), 0, SHAPE, (2, 1), (Name("torch", "per_tensor_affine"), 0.5, 0), False, (), function="_rebuild_qtensor"), "no tensor but torch._utils._rebuild_qtensor"),
    ("sparse_tensor", rebuilt(0, 0, function="_rebuild_sparse_tensor"), "no tensor but torch._utils._rebuild_sparse_tensor"),
    ("a_dict", with_pickle(distcp.dumps({"a": 1})), "no tensor but a dict"),
    ("os_system", with_pickle(distcp.dumps(SYSTEM)), "no tensor but os.system"),
    ("os_system_within", rebuilt(SYSTEM, 0, SHAPE, (2, 1), False, ()), "is not that of a tensor"),
    ("os_system_as_size", rebuilt(storage(), SYSTEM, SHAPE, (2, 1), False, ()), "has no size where one should be"),
    ("os_system_as_class", rebuilt(distcp.Stored("storage", POPEN, "0", "cpu", 4), 0, SHAPE, (2, 1), False, ()), "its storage is a subprocess.Popen"),
    ("memo_of_itself", with_pickle(b"\x80\x02}q\x00U\x01ah\x00s."), "no tensor but a dict"),
    ("tuple_of_itself", with_pickle(b"\x80\x02]q\x00h\x00\x85a."), "no tensor but a list"),
    ("arguments_of_itself", with_pickle(b"\x80\x02ctorch._utils\n_rebuild_parameter\n(]q\x00h\x00atR."), "no tensor but a list"),
    ("deep_lists", with_pickle(b"\x80\x02" + b"]" * 800 + b"a" * 799 + b"."), "no tensor but a list"),
    ("deep_tuples", with_pickle(b"\x80\x02)" + b"\x85" * 800 + b"."), "no tensor but a tuple"),
    ("memo_number_huge", with_pickle(b"\x80\x02Nr\xff\xff\xff\x7f."), "a memo number that is too large"),
    ("memo_doubles", with_pickle(b"\x80\x02)" + b"".join(b"q%cq%ch%c\x86" % (i, i, i) for i in range(64)) + b"."), "no tensor but a tuple"),
    ("length_lies", with_pickle(b"\x80\x04\x8d" + b"\xff" * 8 + b"abc."), "cut off at byte 2"),
    ("frame_lies", with_pickle(b"\x80\x04\x95" + b"\xff" * 8 + b"N."), "cut off at byte 2"),
    ("pickle_cut_off", with_pickle(tensor_pickle("F32", SHAPE)[:-9]), "pickle: cut off"),
    ("pickle_and_more", with_pickle(tensor_pickle("F32", SHAPE) + b"."), "pickle: 1 bytes behind its end"),
    ("pickle_of_protocol_0", with_pickle(b"(lp0\n."), "no protocol 2 to 5"),
    ("pickle_of_extensions", with_pickle(b"\x80\x02\x82\x01."), "opcode 0x82 at byte 2 is none that checkpoints are written with"),
]  # fmt: skip


# ---- boxes: (name, keywords for a tensor of two boxes, words) ---------------------------------------


def halves():
    return [Box(f"__{i}_0.distcp", (i, 0), (1, 2), item("F32", (1, 2), DATA[8 * i : 8 * i + 8])) for i in range(2)]


def changed(i, **members):
    boxes = halves()
    boxes[i] = boxes[i]._replace(**members)
    return boxes


BOXES = [
    ("gap", (2, 2), halves()[:1], ["tensor 'w'", "[1, 0]"]),
    ("larger_than_its_boxes", (3, 2), halves(), ["tensor 'w'", "[2, 0]"]),
    ("box_outside", (1, 2), halves(), [".metadata", "a box lies outside of its tensor"]),
    ("box_overlaps", (2, 2), changed(1, offsets=(0, 1), shape=(2, 1), item=item("F32", (2, 1), DATA[:8])), ["tensor 'w'", "overlap"]),
    ("box_of_more_dimensions", (2, 2), changed(0, offsets=(0, 0, 0)), ["a box has another number of dimensions"]),
    ("boxes_of_one_place", (2, 2), [*halves(), halves()[1]], ["two boxes have the same offsets"]),
    ("file_leads_out", (2, 2), changed(0, file="../x.distcp"), ["'../x.distcp' is not a relative path below its directory"]),
    ("file_missing", (2, 2), halves(), ["__1_0.distcp", ".metadata names it, but it is missing"]),
    ("file_truncated", (2, 2), halves(), ["__1_0.distcp", "tensor 'w'", "an item ends at"]),
    ("file_empty", (2, 2), halves(), ["__1_0.distcp", "tensor 'w'", "found 0 bytes, but an item ends at"]),
    ("files_exchanged", (4, 2), [Box(f"__{i}_0.distcp", (3 * i, 0), (3 - 2 * i, 2), item("F32", (3 - 2 * i, 2), (DATA * 2)[: 24 - 16 * i])) for i in range(2)], ["__0_0.distcp", "tensor 'w'"]),
    ("save_never_ended", (2, 2), halves(), ["never ended"]),
    ("save_over_another_never_ended", (2, 2), halves(), [".metadata.tmp", "never ended"]),
    ("metadata_lost", (2, 2), halves(), ["without the .metadata"]),
]  # fmt: skip

AFTERWARDS = {
    "file_leads_out": lambda: os.unlink("../x.distcp"),
    "file_missing": lambda: os.unlink("__1_0.distcp"),
    "file_truncated": lambda: os.truncate("__1_0.distcp", os.path.getsize("__1_0.distcp") - 1),
    "file_empty": lambda: os.truncate("__1_0.distcp", 0),
    "files_exchanged": lambda: (os.rename("__0_0.distcp", "x"), os.rename("__1_0.distcp", "__0_0.distcp"), os.rename("x", "__1_0.distcp")),
    "save_never_ended": lambda: os.rename(".metadata", ".metadata.tmp"),
    "save_over_another_never_ended": lambda: shutil.copy(".metadata", ".metadata.tmp"),
    "metadata_lost": lambda: os.unlink(".metadata"),
}

# dtypes that torch has and safetensors has not
DTYPES = ["qint8", "quint8", "qint32", "quint4x2", "uint4", "int4", "uint1", "float4_e2m1fn_x2", "bits8", "complex32", "complex128"]


# ---- .metadata: (name, bytes, words) ----------------------------------------------------------------


def metadata(**members):
    """That of one box of one tensor, with other members."""
    where = {"index": distcp.MetadataIndex(fqn="w", offset=distcp.size((0, 0)), index=0),
             "info": distcp.StorageInfo(relative_path=FILE, offset=0, length=len(good())),
             "properties": distcp.properties("F32"),
             "chunk": distcp.ChunkStorageMetadata(offsets=distcp.size((0, 0)), sizes=distcp.size(SHAPE)),
             "name": "w", "size": distcp.size(SHAPE), **members}  # fmt: skip
    tensor_of = distcp.TensorStorageMetadata(properties=where["properties"], size=where["size"], chunks=[where["chunk"]])
    state = members.get("state", {where["name"]: members.get("tensor", tensor_of)})
    stored = members.get("storage", {where["index"]: where["info"]})
    return distcp.dumps(distcp.Metadata(state_dict_metadata=state, planner_data=None, storage_data=stored), 4)


def layout(word):
    said = list(distcp.properties("F32").state)
    said[1] = Call(Name("torch.serialization", "_get_layout"), word)
    return distcp.TensorProperties(state=tuple(said))


def info(**members):
    return distcp.StorageInfo(**{"relative_path": FILE, "offset": 0, "length": len(good()), **members})


METADATA = [
    ("metadata_empty", b"", "no protocol 2 to 5"),
    ("metadata_is_json", b'{"state_dict_metadata": {}}', "no protocol 2 to 5"),
    ("metadata_cut_off", metadata()[:-40], "pickle: cut off"),
    ("metadata_calls", distcp.dumps(SYSTEM), "found os.system, expected the Metadata of a distributed checkpoint"),
    ("metadata_is_a_dict", distcp.dumps({"state_dict_metadata": {}}), "found a dict, expected the Metadata"),
    ("metadata_without_members", distcp.dumps(distcp.Metadata()), "an object without 'storage_data'"),
    ("metadata_of_itself", b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81q\x00}(U\x0cstorage_datah\x00ub.", "expected storage_data"),
    ("storage_data_calls", metadata(storage=SYSTEM), "found os.system, expected storage_data"),
    ("state_dict_calls", metadata(state=SYSTEM), "found os.system, expected state_dict_metadata"),
    ("tensor_calls", metadata(tensor=SYSTEM), "found os.system, expected a tensor or bytes"),
    ("size_calls", metadata(size=SYSTEM), "found os.system, expected sizes"),
    ("chunk_calls", metadata(chunk=SYSTEM), "found os.system, expected a ChunkStorageMetadata"),
    ("properties_call", metadata(properties=SYSTEM), "found os.system, expected a TensorProperties"),
    ("index_calls", metadata(index=SYSTEM), "found os.system, expected a MetadataIndex"),
    ("info_calls", metadata(info=SYSTEM), "found os.system, expected a _StorageInfo"),
    ("negative_size", metadata(size=distcp.size((2, -2))), "expected a size"),
    ("size_of_64_bits", metadata(size=distcp.size((2, 1 << 63))), "expected a size"),
    ("sizes_of_33", metadata(size=distcp.size((1,) * 33)), "more than 32 dimensions"),
    ("product_overflows", metadata(size=distcp.size((1 << 40, 1 << 40))), "tensor 'w'"),
    ("place_negative", metadata(info=info(offset=-1)), "its place in the file is no number"),
    ("place_huge", metadata(info=info(offset=(1 << 59) - 1)), "an item ends at"),
    ("length_huge", metadata(info=info(length=(1 << 59) - 1)), "an item ends at"),
    ("compressed_by_a_transform", metadata(info=info(transform_descriptors=["zstd"])), "saved compressed, or changed in another way"),
    ("sparse", metadata(properties=layout("torch.sparse_coo")), "it is sparse"),
    ("name_with_nul", metadata(name="w\0"), "a name that is not UTF-8 without NUL"),
    ("name_too_long", metadata(name="w" * 5000), "a name of more than 4096 bytes"),
    ("name_is_a_number", metadata(name=7), "found an int, expected a name"),
    ("absolute_path", metadata(info=info(relative_path="/etc/passwd")), "not a relative path below its directory"),
    ("no_item", metadata(storage={}), "a box of it is in no file"),
]  # fmt: skip


TOO_MUCH = "it speaks of far more than a text of its length is written for"
SHARED = {
    "shared_groups": {"n": 200, "groups": 200, "ranks": 16},
    "shared_slices": {"n": 100, "slices": 100, "ranks": 50},
    "shared_strides": {"n": 100, "boxes": 1000, "ranks": 8},
    "shared_meshes": {"n": 100, "meshes": 20, "ranks": 50},
    "shared_paths": {"n": 100, "words": 100},
}


def make(name, write):
    where = os.path.join(TOP, name)
    os.makedirs(where)
    os.chdir(where)
    write()
    AFTERWARDS.get(name, lambda: None)()


def cases():
    """name, who writes it into the directory where we are, words"""
    for name, data, words in ITEMS:
        boxes = [Box(FILE, (0, 0), SHAPE, data)]
        yield name, lambda boxes=boxes: distcp.write(".", {"w": ("F32", SHAPE, boxes)}), [FILE, "tensor 'w'", words]
    for name, shape, boxes, words in BOXES:
        yield name, lambda shape=shape, boxes=boxes: distcp.write(".", {"w": ("F32", shape, boxes)}), words
    for dtype in DTYPES:
        boxes = [Box(FILE, (0, 0), SHAPE, good())]
        words = [".metadata", "tensor 'w'", f"its dtype is torch.{dtype}, which safetensors does not have"]
        yield f"dtype_{dtype}", lambda dtype=dtype, boxes=boxes: distcp.write(".", {"w": (dtype, SHAPE, boxes)}), words
    for name, data, words in METADATA:
        yield name, lambda data=data: (put(".metadata", data), put(FILE, good())), [words]


    for name, parts in SHARED.items():
        yield name, lambda parts=parts: put("metadata.pkl", distcp.shared(**parts)), ["metadata.pkl", TOO_MUCH]


def main():
    shutil.rmtree(TOP, ignore_errors=True)
    lines = ["# name, exit status, words in the message; written by make_bad_distcp.py"]
    for name, write, words in cases():
        make(name, write)
        lines.append("\t".join([name, str(EINPUT), *words]))
    put(os.path.join(TOP, "cases.txt"), ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
