"""What `reshard` must write, byte for byte: the boxes of DTensor's rule in torch's files, by the oracle alone."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import oracle
import runner


def placed(shape, mesh, placements):
    """The box of each rank; a placement whose dimension the tensor lacks replicates it. No placements = 0 for each."""
    placements = placements or (0,) * len(mesh)
    return oracle.boxes_of(shape, mesh, [p if p is not None and p < len(shape) else None for p in placements])


def held(tensors, mesh, placements):
    """{fqn: [(rank, Box)]}: each box once, at the lowest rank, and no empty ones; of a tensor without elements all of it at rank 0.
    placements: for all, or a function of the name."""
    out = {}
    for name, t in tensors.items():
        boxes = placed(t.shape, mesh, placements(name) if callable(placements) else placements)
        if 0 in t.shape:
            out[name] = [(0, oracle.whole(t.shape))]
            continue
        seen = {}
        for rank, box in enumerate(boxes):
            if 0 not in box.shape:
                seen.setdefault(box, rank)
        out[name] = [(rank, box) for box, rank in seen.items()]
    return out


def shards(tensors, mesh, placements=None, models=None, of=None):
    """{file name: bytes}. models: {fqn: model number}; of: the n of the names."""
    models = models or {name: 1 for name in tensors}
    of = of or max(models.values())
    files = {}
    for name, boxes in held(tensors, mesh, placements).items():
        for rank, box in boxes:
            files.setdefault(oracle.shard_name(rank + 1, models[name], of), {})[name] = box
    out = {}
    for file, boxes in files.items():
        order = [n for n, _ in oracle.file_order([(n, tensors[n].dtype) for n in boxes])]
        parts = {n: oracle.Tensor(tensors[n].dtype, boxes[n].shape, oracle.cut(tensors[n], boxes[n])) for n in order}
        out[file] = oracle.serialize(parts, oracle.own_metadata({n: (tensors[n], boxes[n]) for n in order}, files))
    return out


def words(mesh, placements=None):
    """The options that say it."""
    out = ["--mesh", "x".join(map(str, mesh))]
    if placements:
        out += ["--placements", ",".join("replicate" if p is None else f"shard{p}" for p in placements)]
    return out


def reshard(src, dst, *options, mesh=(2,), placements=None, **more):
    return runner.run(["reshard", *words(mesh, placements), *map(str, options), src, dst], **more)


def done(src, dst, *options, quiet=True, **more):
    return runner.ok(reshard(src, dst, *options, **more), quiet)


def shard_files(directory):
    return {n: data for n, data in oracle.tree(directory).items() if n.startswith("shard-")}


def weld(src, dst, *options, **more):
    """{name: bytes} of the consolidated checkpoint."""
    runner.ok(runner.run(["consolidate", "-q", *map(str, options), src, dst], **more))
    return oracle.tree(dst)


def numbered(tree):
    """A tree whose files have no numbers, as it is called once it went through shards."""
    if oracle.SINGLE not in tree:
        return tree
    name = oracle.model_name(1, 1)
    out = {n: data for n, data in tree.items() if n != oracle.SINGLE}
    out[name] = tree[oracle.SINGLE]
    return out


def together(fn, items):
    """fn(item, env) of each, some at a time: most of a short run is waiting for MPI, which wants a directory of its own for each.
    The first that fails is the error."""

    def one(number_and_item):
        number, item = number_and_item
        mine = os.path.join(base, str(number))
        os.mkdir(mine)
        return fn(item, {"TMPDIR": mine})

    with tempfile.TemporaryDirectory(prefix="sw", ignore_cleanup_errors=True) as base, ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, enumerate(items)))
