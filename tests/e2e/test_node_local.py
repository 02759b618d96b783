"""--node-local: each rank reads only what it sees in its own INPUT_DIR."""

import os
import shutil

import oracle
import pytest
from oracle import shard_name
from runner import HERE, fails, ok, run, show, warnings

BY_RANK = ["sh", os.path.join(HERE, "by_rank.sh")]


@pytest.fixture
def nodes(tmp_path, make):
    """nodes(np): a checkpoint of four shards, spread over directories 0 .. np - 1."""

    def build(np, ranks=4, where=lambda i, np: (i % np,), **more):
        ckpt = make(tmp_path / "in", ranks=ranks, **more)
        for rank in range(np):
            (tmp_path / "node" / str(rank)).mkdir(parents=True)
        for i, path in enumerate(sorted((tmp_path / "in").iterdir())):
            for rank in where(i, np):
                shutil.copy(path, tmp_path / "node" / str(rank))
        return ckpt

    return build


def local(tmp_path, *options, np):
    return run(["consolidate", "--node-local", *options, tmp_path / "node" / "@RANK@", tmp_path / "out"], np=np, prefix=BY_RANK)


def same(out, want):
    assert oracle.difference(oracle.tree(out), want) == ""


@pytest.mark.parametrize("np", [1, 2, 3, 5])
def test_every_rank_its_own(tmp_path, nodes, np):
    ckpt = nodes(np)
    ok(local(tmp_path, np=np))
    same(tmp_path / "out", ckpt.expect())


def test_one_process(dirs, make, weld):
    src, out = dirs
    ckpt = make(src)
    ok(weld(src, out, "--node-local"))
    same(out, ckpt.expect())


def test_all_see_the_same(dirs, make, weld):
    """A directory that is shared after all: one shard, read by the lowest."""
    src, out = dirs
    ckpt = make(src)
    ok(weld(src, out, "--node-local", np=3))
    same(out, ckpt.expect())


def test_a_rank_that_sees_none(tmp_path, nodes):
    ckpt = nodes(3, where=lambda i, np: (i % 2,))
    ok(local(tmp_path, np=3))
    same(tmp_path / "out", ckpt.expect())


def test_rank_0_sees_none(tmp_path, nodes):
    ckpt = nodes(3, where=lambda i, np: (1 + i % 2,))
    ok(local(tmp_path, np=3))
    same(tmp_path / "out", ckpt.expect())


def test_a_shard_that_no_rank_sees(tmp_path, nodes):
    nodes(2)
    (tmp_path / "node" / "0" / shard_name(1)).unlink()
    fails(local(tmp_path, np=2), 3, "[0, 0]")
    fails(local(tmp_path, "--expect-shards", 4, np=2), 3, "1")
    assert not (tmp_path / "out").exists()


def test_the_lowest_rank_reads_what_several_have(tmp_path, nodes):
    ckpt = nodes(3, where=lambda i, np: range(np))
    for rank in (1, 2):
        for path in (tmp_path / "node" / str(rank)).iterdir():
            raw = bytearray(path.read_bytes())
            raw[-20:] = b"z" * 20  # data, not header
            path.write_bytes(raw)
    ok(local(tmp_path, np=3))
    same(tmp_path / "out", ckpt.expect())


@pytest.mark.parametrize("how", ["header", "size"])
def test_the_same_name_with_another_header_or_size(tmp_path, nodes, rng, how):
    nodes(2, where=lambda i, np: range(np))
    path = tmp_path / "node" / "1" / shard_name(3)
    if how == "header":
        path.write_bytes(path.read_bytes().replace(b'"DCP_VERSION":"1.0"', b'"DCP_VERSION":"1.1"'))
    else:
        oracle.write_shard(str(path), {"model.new": (oracle.random_tensor(rng, "U8", (9,)), oracle.whole((9,)))})
    fails(local(tmp_path, np=2), 3, shard_name(3))
    assert not (tmp_path / "out").exists()


def test_a_directory_that_one_rank_lacks(tmp_path, nodes):
    nodes(2, where=lambda i, np: (0,))
    (tmp_path / "node" / "1").rmdir()
    fails(local(tmp_path, np=2), 3)


def test_side_files_and_maps_are_rank_0s(tmp_path, nodes):
    ckpt = nodes(2)
    numbers = {n: 1 + i % 2 for i, n in enumerate(ckpt.tensors)}
    oracle.write_json(str(tmp_path / "node" / "0" / ".hf_metadata" / "fqn_to_file_index_mapping.json"), numbers)
    oracle.write(str(tmp_path / "node" / "1" / ".hf_metadata" / "fqn_to_file_index_mapping.json"), b"broken")
    ok(local(tmp_path, np=2))
    same(tmp_path / "out", ckpt.expect(oracle.numbered(numbers)))


def test_two_saves_on_two_nodes(tmp_path, nodes):
    nodes(2)
    path = tmp_path / "node" / "1" / shard_name(2)
    path.rename(tmp_path / "node" / "1" / shard_name(2, 1, 2))
    fails(local(tmp_path, np=2), 3)


def test_shards_on_one_node_and_other_files_on_another(tmp_path, nodes):
    """Names of the shard form anywhere decide for all."""
    ckpt = nodes(2, where=lambda i, np: (0,))
    oracle.write(str(tmp_path / "node" / "1" / "stray.safetensors"), b"never looked at")
    ok(local(tmp_path, np=2))
    same(tmp_path / "out", ckpt.expect())


def test_band_is_refused(tmp_path, nodes):
    """By band a rank would need what it does not see."""
    ckpt = nodes(2)
    result = local(tmp_path, "--assign", "band", np=2)
    if result.status == 0:
        assert warnings(result), show(result)
        same(tmp_path / "out", ckpt.expect())
    else:
        fails(result, 2, "owner")


def test_an_error_on_another_rank_is_everybodys(tmp_path, nodes):
    nodes(3)
    (tmp_path / "node" / "2" / shard_name(3)).write_bytes(b"short")
    fails(local(tmp_path, np=3), 3, shard_name(3))
    assert not (tmp_path / "out").exists()
