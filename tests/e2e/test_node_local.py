"""--node-local: each rank reads only what it sees in its own INPUT_DIR."""

import os
import shutil

import oracle
import pytest
from oracle import same, shard_name
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


def local(tmp_path, *options, np, ends=("--expect-shards", 4)):
    """ends: how the last shard is known."""
    return run(["consolidate", "--node-local", *ends, *options, tmp_path / "node" / "@RANK@", tmp_path / "out"], np=np, prefix=BY_RANK)


def told(result, *lines):
    assert result.status == 0 and warnings(result) == [f"shardweld: warning: {line}" for line in lines], show(result)


@pytest.mark.parametrize("np", [1, 5])
def test_every_rank_its_own(tmp_path, nodes, np):
    ckpt = nodes(np)
    result = local(tmp_path, np=np)
    told(result, *["rank 4 sees no shard file in the directory of its own"] * (np == 5))
    same(tmp_path / "out", ckpt.expect())


def test_a_forgotten_node_is_missed(tmp_path, nodes):
    """Without a word on the last shard a node that was left out would cut every tensor."""
    ckpt = nodes(2)
    fails(local(tmp_path, np=2, ends=()), 2, "--expect-shards", "--like")
    assert not (tmp_path / "out").exists()
    ok(local(tmp_path, np=2))
    (tmp_path / "out").rename(tmp_path / "whole")
    ok(local(tmp_path, np=2, ends=("--like", tmp_path / "whole" / oracle.INDEX)))
    same(tmp_path / "out", ckpt.expect())
    shutil.rmtree(tmp_path / "out")
    for i in (3, 4):
        (tmp_path / "node" / str((i - 1) % 2) / shard_name(i)).unlink()
    fails(local(tmp_path, np=2), 3, "3, 4")
    fails(local(tmp_path, np=2, ends=("--like", tmp_path / "whole" / oracle.INDEX)), 3, "shape")


def test_shards_that_tell_the_full_shapes(tmp_path, make):
    """What we write ourselves needs no option, and misses what is lost: another rank, or another node."""
    make(tmp_path / "in")
    ok(run(["reshard", "--ranks", "4", tmp_path / "in", tmp_path / "own"]))
    for i, path in enumerate(sorted((tmp_path / "own").iterdir())):
        (tmp_path / "node" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "node" / str(i % 2))
    ok(local(tmp_path, np=2, ends=()))
    shutil.rmtree(tmp_path / "out")
    for path in (tmp_path / "node" / "1").iterdir():
        path.unlink()
    fails(local(tmp_path, np=2, ends=()), 3, "shards 2, 4 of model 1 are missing")


def test_one_process(dirs, make, weld):
    src, out = dirs
    ckpt = make(src, ranks=4)
    ok(weld(src, out, "--node-local", "--expect-shards", 4))
    same(out, ckpt.expect())


def test_all_see_the_same(dirs, make, weld):
    """A directory that is shared after all: one shard, read by the lowest."""
    src, out = dirs
    ckpt = make(src, ranks=4)
    ok(weld(src, out, "--node-local", "--expect-shards", 4, np=3))
    same(out, ckpt.expect())


def test_rank_0_sees_none(tmp_path, nodes):
    ckpt = nodes(4, where=lambda i, np: (1 + i % 2,))
    told(local(tmp_path, np=4), "ranks 0, 3 see no shard file in the directory of their own")
    same(tmp_path / "out", ckpt.expect())


def test_a_shard_that_no_rank_sees(tmp_path, nodes):
    nodes(2)
    (tmp_path / "node" / "0" / shard_name(1)).unlink()
    fails(local(tmp_path, np=2, ends=()), 3, "[0, 0]", "shard 1 of model 1 is missing")
    fails(local(tmp_path, np=2), 3, "1")
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
    oracle.write(str(tmp_path / "node" / "1" / "stray.safetensors"), b"no header")
    told(
        local(tmp_path, np=2),
        "rank 1 sees no shard file in the directory of its own",
        "stray.safetensors: is no shard file by its name, and has no sharding info: it is left out",
    )
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
