"""Any checkpoint, any number of ranks, any buffer, both assignments, both transports: the same bytes.

Each round makes a checkpoint at random and welds it several times. SEED (printed at the start) repeats a
run, ROUNDS says how many rounds (default 24).
"""

import json
import os
import shutil

import numpy
import oracle
import pytest
from conftest import SEED
from oracle import SINGLE
from runner import HERE, ok, run

ROUNDS = int(os.environ.get("ROUNDS", "24"))
IO = ["ompio", "romio321"]
SUBBYTE = [d for d, bits in oracle.DTYPES.items() if bits % 8]
BUFFERS = ["4KiB", "4097", "12345", "64KiB", "100KB", "1MiB", "3MiB", "16MiB"]


def name_of(rng, i):
    forms = ["model.layers.{}.self_attn.q_proj.weight", "{}", "w{}", "Ünïcode.{}", "a/b {}", "\U0001f600{}", "z.\t{}\"", "expert_{}_bias"]
    return forms[rng.integers(len(forms))].format(i)


def shape_of(rng, dtype, kind):
    if kind == "dims":
        shape = [1] * 32
        for i in rng.integers(0, len(shape), 8):
            shape[i] = int(rng.integers(1, 4))
    elif kind == "large":
        shape = [int(n) for n in rng.integers(1, 1500, rng.integers(1, 4))]
        while numpy.prod(shape) > 600_000:
            shape[rng.integers(len(shape))] //= 2
            shape = [max(n, 1) for n in shape]
    elif kind == "many":
        shape = [int(rng.integers(1, 501))]
        if rng.random() < 0.5:
            shape.append(int(rng.integers(1, 4)))
    else:
        shape = [int(n) for n in rng.choice([0, 1, 2, 3, 4, 5, 7, 8, 11, 16], rng.integers(0, 6), p=[0.03, *[0.97 / 9] * 9])]
    if dtype in SUBBYTE:  # a whole number of bytes in each row
        shape = shape or [4]
        shape[-1] = -(-shape[-1] // 4) * 4
    return tuple(shape)


def placements_of(rng, mesh, dtype, shape):
    dims = list(range(len(shape))) if dtype not in SUBBYTE else [0] if len(shape) > 1 else []
    return [None if not dims or rng.random() < 0.25 else int(rng.choice(dims)) for _ in mesh]


def checkpoint(rng, kind, directory, own=False):
    """Write one, as torch or as we do; the tensors, their model numbers, and the size of the mesh. Its shard numbers may have holes."""
    mesh = [int(n) for n in rng.integers(1, 5, rng.integers(1, 4))]
    count = {"many": rng.integers(1000, 3000), "large": rng.integers(1, 12), "dims": rng.integers(1, 4)}.get(kind, rng.integers(1, 40))
    if kind == "many":
        mesh = mesh[:2]
    tensors, boxes = {}, {}
    for i in range(int(count)):
        dtype = str(rng.choice(list(oracle.DTYPES)))
        shape = shape_of(rng, dtype, kind)
        name = name_of(rng, i)
        tensors[name] = oracle.random_tensor(rng, dtype, shape)
        boxes[name] = oracle.boxes_of(shape, mesh, placements_of(rng, mesh, dtype, shape))
    models = {n: int(rng.integers(1, 5)) for n in tensors} if rng.random() < 0.5 else None
    oracle.write_sharded(str(directory), tensors, boxes, models, replicas=rng.random() < 0.3, own=own)
    return tensors, models, mesh


def layout(rng, tensors, models, tmp_path):
    """Options and the files that they ask for."""
    choice = rng.integers(5)
    if choice == 0:
        return ["--single-file"], {n: SINGLE for n in tensors}, None
    if choice == 1:
        limit = int(rng.integers(1, 2 + sum(len(t.data) for t in tensors.values())))
        return ["--max-shard-size", limit], *oracle.by_size(tensors, limit)
    if choice == 2:
        numbers = {n: int(rng.integers(1, 8)) for n in tensors}
        oracle.write_json(str(tmp_path / "map.json"), numbers)
        return ["--fqn-map", tmp_path / "map.json"], oracle.numbered(numbers), oracle.INDEX
    return [], oracle.numbered(models or {n: 1 for n in tensors}), oracle.INDEX


def transport(rng, np):
    options = ["--no-sync", "--buffer-size", str(rng.choice(BUFFERS))]
    if np is not None:
        options += ["--assign", str(rng.choice(["band", "owner"]))]
    return options, {} if np is None else {"OMPI_MCA_io": str(rng.choice(IO))}


def weld_and_compare(rng, src, out, np, options, want, **more):
    how, env = transport(rng, np)
    result = run(["consolidate", "-q", *options, *how, src, out], np=np, env=env, timeout=180, **more)
    words = f"np {np}, {' '.join(map(str, [*options, *how]))}, {env}"
    assert result.status == 0 and result.stderr == "", f"{words}: {result}"
    assert oracle.difference(oracle.tree(out), want) == "", words
    shutil.rmtree(out)


def kind_of(number):
    return {1: "large", 3: "many", 5: "large", 7: "dims"}.get(number % 8, "small")


@pytest.mark.parametrize("number", range(ROUNDS))
def test_round(number, tmp_path):
    rng = numpy.random.default_rng([SEED, number])
    tensors, models, _ = checkpoint(rng, kind_of(number), tmp_path / "in")
    options, files, index = layout(rng, tensors, models, tmp_path)
    want = oracle.consolidated(tensors, files, index)
    for np in (None, int(rng.choice([1, 2, 3])), int(rng.choice([3, 5]))):
        weld_and_compare(rng, tmp_path / "in", tmp_path / "out", np, options, want)


@pytest.mark.parametrize("number", range(max(1, ROUNDS // 4)))
def test_node_local_round(number, tmp_path):
    """Every shard file on one rank, or on some of them."""
    rng = numpy.random.default_rng([SEED, 1000 + number])
    kind = ["small", "large", "many"][number % 3]
    tensors, models, _ = checkpoint(rng, kind, tmp_path / "in", own=True)
    options, files, index = layout(rng, tensors, models, tmp_path)
    want = oracle.consolidated(tensors, files, index)
    for np in (2, int(rng.choice([3, 5]))):
        local = tmp_path / f"local{np}"
        for rank in range(np):
            (local / str(rank)).mkdir(parents=True)
        for path in (tmp_path / "in").iterdir():
            ranks = rng.choice(np, 1 if rng.random() < 0.8 else 2, replace=False)
            for rank in ranks:
                os.link(path, local / str(rank) / path.name)
        how = ["--node-local", "--no-sync", "--buffer-size", str(rng.choice(BUFFERS))]
        args = ["consolidate", "-q", *options, *how, local / "@RANK@", tmp_path / "out"]
        env = {"OMPI_MCA_io": str(rng.choice(IO))}
        result = run(args, np=np, env=env, prefix=["sh", os.path.join(HERE, "by_rank.sh")], timeout=180)
        ok(result)
        assert oracle.difference(oracle.tree(tmp_path / "out"), want) == "", f"np {np}, {how}, {env}"
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("np,assign,io", [(16, "owner", "romio321"), (24, "band", "ompio")])
def test_many_ranks(np, assign, io, tmp_path):
    """OMPIO changes its ways with the number of ranks; here most ranks have little or nothing to do."""
    rng = numpy.random.default_rng([SEED, 2000 + np])
    tensors, models, _ = checkpoint(rng, "large", tmp_path / "in")
    want = oracle.consolidated(tensors, oracle.numbered(models or {n: 1 for n in tensors}))
    args = ["consolidate", "-q", "--no-sync", "--assign", assign, "--buffer-size", "256KiB", tmp_path / "in", tmp_path / "out"]
    ok(run(args, np=np, env={"OMPI_MCA_io": io}, timeout=240))
    assert oracle.difference(oracle.tree(tmp_path / "out"), want) == ""


def test_ranks_without_work(tmp_path):
    """One byte, and five ranks."""
    for shape, data in (((1,), b"x"), ((0,), b"")):
        tensors = {"a": oracle.Tensor("U8", shape, data)}
        oracle.write_sharded(str(tmp_path / "in"), tensors, {"a": [oracle.whole(shape)]})
        for assign, io in zip(("band", "owner"), IO):
            args = ["consolidate", "--no-sync", "--assign", assign, tmp_path / "in", tmp_path / "out"]
            ok(run(args, np=5, env={"OMPI_MCA_io": io}))
            oracle.same(tmp_path / "out", oracle.consolidated(tensors, oracle.numbered({"a": 1})))
            shutil.rmtree(tmp_path / "out")


def test_more_files_than_ranks_and_more_ranks_than_files(tmp_path):
    rng = numpy.random.default_rng([SEED, 4000])
    tensors = {f"t{i}": oracle.random_tensor(rng, "F32", (200, int(rng.integers(1, 2000)))) for i in range(14)}
    boxes = {n: oracle.boxes_of(t.shape, (2, 2), (0, 1)) for n, t in tensors.items()}
    oracle.write_sharded(str(tmp_path / "in"), tensors, boxes)
    for files in (14, 2):
        numbers = {n: 1 + i % files for i, n in enumerate(tensors)}
        oracle.write_json(str(tmp_path / "map.json"), numbers)
        want = oracle.consolidated(tensors, oracle.numbered(numbers))
        for _ in range(2):
            weld_and_compare(rng, tmp_path / "in", tmp_path / "out", 5, ["--fqn-map", tmp_path / "map.json"], want)


def test_the_report_is_the_same_for_all(tmp_path):
    """What was moved does not depend on who moved it."""
    rng = numpy.random.default_rng([SEED, 6000])
    checkpoint(rng, "large", tmp_path / "in")
    seen = set()
    for np in (None, 2, 3):
        ok(run(["consolidate", "-q", "--no-sync", "--overwrite", "--report", tmp_path / "r", tmp_path / "in", tmp_path / "out"], np=np))
        got = json.loads((tmp_path / "r").read_text())
        seen.add(json.dumps([got[k] for k in ("files", "index", "tensors", "boxes", "bytes", "bytes_written", "parameters")]))
    assert len(seen) == 1, seen
