"""torch's next dialect of shard files: several boxes of one tensor in one file, each an entry of a name of its own, and
`logical_fqn` in DCP_SHARDING_INFO says of which tensor. No release of torch writes it yet: made here by the rule of its writer."""

import json

import numpy as np
import oracle
import pytest
from runner import fails, ok, run, show

RNG = np.random.default_rng(11)


def write(where, ranks, known=True):
    """ranks: of each a list of (fqn, tensor, box). A name that comes once keeps it, as torch's writer does."""
    for i, held in enumerate(ranks, 1):
        entries, info = {}, {}
        for fqn, t, box in held:
            key, n = fqn, 0
            if sum(f == fqn for f, _, _ in held) > 1:
                while f"{fqn}.__dcp_shard_{n}" in entries:
                    n += 1
                key = f"{fqn}.__dcp_shard_{n}"
            entries[key] = oracle.Tensor(t.dtype, box.shape, oracle.cut(t, box))
            info[key] = {"logical_fqn": fqn, "saved_offsets": list(box.offsets)} | ({"global_shape": list(t.shape)} if known else {})
        meta = {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "format": "pt"}
        oracle.write(str(where / oracle.shard_name(i)), oracle.serialize(entries, meta))


def interleaved(t, ranks, fold):
    """Rows as a strided placement has them: rank r holds the r-th part of each fold."""
    rows = t.shape[0] // fold
    part = rows // ranks
    return [[oracle.Box((f * rows + r * part, 0), (part, t.shape[1])) for f in range(fold)] for r in range(ranks)]


@pytest.mark.parametrize("np_, known", [(None, True), (3, False), (5, True)])
def test_several_boxes_in_a_file(np_, known, tmp_path):
    w, b = oracle.random_tensor(RNG, "F32", (24, 50)), oracle.random_tensor(RNG, "BF16", (9,))
    ranks = [[("w", w, box) for box in boxes] for boxes in interleaved(w, 2, 3)]
    ranks[0].append(("b", b, oracle.whole(b.shape)))
    write(tmp_path / "in", ranks, known)
    want = oracle.consolidated({"w": w, "b": b}, {"w": oracle.SINGLE, "b": oracle.SINGLE}, index=None)
    for assign in ("band", "owner"):
        ok(run(["consolidate", "--single-file", "--assign", assign, "--buffer-size", "4KiB", tmp_path / "in", tmp_path / assign], np=np_))
        assert oracle.difference(oracle.tree(tmp_path / assign), want) == ""
    ok(run(["verify", tmp_path / "in", tmp_path / "band"], np=np_))
    if np_ is None:
        ok(run(["reshard", "--mesh", "5", tmp_path / "in", tmp_path / "cut"]))
        ok(run(["consolidate", "--single-file", tmp_path / "cut", tmp_path / "again"]))
        assert oracle.difference(oracle.tree(tmp_path / "again"), want) == ""
        shown = run(["inspect", tmp_path / "in"])
        assert shown.status == 0 and "rows over 6" in shown.stdout and "__dcp_shard" not in shown.stdout, show(shown)


def test_a_name_that_looks_like_one_of_a_box(tmp_path):
    """It is what its entry says that counts, in any order: here the names of two tensors change places."""
    a, b = oracle.random_tensor(RNG, "F32", (3, 2)), oracle.random_tensor(RNG, "F32", (3, 2))
    info = {"b": {"logical_fqn": "a", "saved_offsets": [0, 0]}, "a": {"logical_fqn": "b", "saved_offsets": [0, 0]}}
    meta = {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "format": "pt"}
    oracle.write(str(tmp_path / "in" / oracle.shard_name(1)), oracle.serialize({"a": b, "b": a}, meta))
    ok(run(["consolidate", "--single-file", tmp_path / "in", tmp_path / "out"]))
    assert oracle.difference(oracle.tree(tmp_path / "out"), oracle.consolidated({"a": a, "b": b}, dict.fromkeys("ab", oracle.SINGLE), index=None)) == ""


def test_what_is_missed(tmp_path):
    w = oracle.random_tensor(RNG, "F32", (8, 2))
    boxes = interleaved(w, 2, 2)
    write(tmp_path / "in", [[("w", w, boxes[0][0]), ("w", w, boxes[0][1])], [("w", w, boxes[1][0])]])
    fails(run(["consolidate", tmp_path / "in", tmp_path / "out"]), 3, "'w'", "[6, 0]")
    write(tmp_path / "in", [[("w", w, boxes[0][0]), ("w", w, boxes[0][1])], [("w", w, oracle.Box((1, 0), (5, 2)))]])
    fails(run(["consolidate", tmp_path / "in", tmp_path / "out"]), 3, "'w'", "overlap")
