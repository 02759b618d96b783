"""reshard between torch's own saves: what torch saved on one mesh, resharded, is what it saves on the other but for empty boxes, and its
reader loads it there. Its own arithmetic says where the boxes of any mesh lie."""

import json
import os
import random
import struct
import subprocess
import sys
from itertools import product

import numpy
import oracle
import pytest
import test_dcp
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import meeting
from resharding import done, reshard, weld
from runner import show
from test_dcp import FILES, TENSORS, full_tensors, local_part, same_bytes
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner, _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset as place_of

RANKS = test_dcp.RANKS
MESHES = {"rows": ((3,), (0,)), "columns": ((5,), (1,)), "grid": ((2, 2), (1, 0)), "hsdp": ((2, 3), (None, 0)), "nested": ((2, 2), (0, 0))}


# ---- many ranks of torch from one process -----------------------------------------------------------


def placed(shape, places):
    return [Shard(p) if p is not None and p < len(shape) else Replicate() for p in places]


def blank(t):
    return torch.zeros(t.shape, dtype=torch.uint8).view(t.dtype) if t.dtype.itemsize == 1 else torch.zeros_like(t)


def as_it_was():
    """On the meshes of test_dcp, four ranks."""
    meshes = {m: init_device_mesh("cpu", m) for m in {t[2] for t in TENSORS.values()}}
    return {n: local_part(t, meshes[TENSORS[n][2]], TENSORS[n][3]) for n, t in full_tensors().items()}


def write(state, directory):
    writer = HuggingFaceStorageWriter(directory, fqn_to_index_mapping=FILES, save_distributed=True)
    dcp.save(state, storage_writer=writer, planner=DefaultSavePlanner(dedup_save_to_lowest_rank=True))


def one_rank(base, name):
    """Save as it was; or load what was resharded onto that mesh, and save on it."""
    if name == "old":
        write(as_it_was(), os.path.join(base, "old"))
        return
    sizes, places = MESHES[name]
    mesh = init_device_mesh("cpu", sizes)
    full = full_tensors()
    want = {n: local_part(t, mesh, placed(t.shape, places)) for n, t in full.items()}
    got = {n: local_part(blank(t), mesh, placed(t.shape, places)) for n, t in full.items()}
    dcp.load(got, storage_reader=HuggingFaceStorageReader(os.path.join(base, f"{name}.ours")))
    for n in full:
        assert same_bytes(got[n].to_local(), want[n].to_local()), (name, n)
    write(want, os.path.join(base, f"{name}.theirs"))


def all_ranks(base, name):
    """Fork them: torch is imported once. The number that failed."""
    ranks = RANKS if name == "old" else int(numpy.prod(MESHES[name][0]))
    os.environ.update(meeting(ranks))
    children = []
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.environ["RANK"] = str(rank)
                dist.init_process_group("gloo")
                one_rank(base, name)
                dist.destroy_process_group()
                status = 0
            finally:
                if status:
                    sys.excepthook(*sys.exc_info())
                os._exit(status)
        children.append(pid)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


def start(*args):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, __file__, *map(str, args)], env=env, check=True, timeout=180)


# ---- boxes of files ---------------------------------------------------------------------------------


def boxes_of_file(data):
    """{fqn: (offsets, shape, dtype, bytes)} of a shard file."""
    data = oracle.as_torch(data)
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    metadata = head.pop("__metadata__")
    info = json.loads(metadata["DCP_SHARDING_INFO"])
    assert metadata.pop("DCP_SHARDING_INFO") and metadata == {"DCP_VERSION": "1.0", "format": "pt"} and info.keys() == head.keys()
    bodies = {n: data[8 + length :][slice(*e["data_offsets"])] for n, e in head.items()}
    return {n: (tuple(info[n]["saved_offsets"]), tuple(e["shape"]), e["dtype"], bodies[n]) for n, e in head.items()}


def boxes_of(directory):
    """{file: boxes} without empty ones, and without files that hold nothing else."""
    files = {f: {n: b for n, b in boxes_of_file(data).items() if b[3]} for f, data in oracle.tree(directory).items() if f.startswith("shard-")}
    return {f: boxes for f, boxes in files.items() if boxes}


# ---- saves and loads --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A save of torch; what became of it for each mesh; and what torch saves there, once it has loaded it."""
    base = tmp_path_factory.mktemp("reshard")
    start(base, "old")
    for i, (name, (mesh, places)) in enumerate(MESHES.items()):
        done(base / "old", base / f"{name}.ours", "--no-sync", mesh=mesh, placements=places, np=3 if i == 0 else None)
    start(base, *MESHES)
    return base


@pytest.mark.parametrize("name", MESHES)
def test_the_boxes_are_torchs(base, name):
    ours, theirs = boxes_of(base / f"{name}.ours"), boxes_of(base / f"{name}.theirs")
    assert sorted(ours) == sorted(theirs)
    for file in theirs:
        assert ours[file] == theirs[file], file


def test_files_without_empty_boxes_are_torchs(base):
    """But for what tells of lost shards, and the order of the tensors in the sharding info: so they are equally long."""
    equal = 0
    for name in MESHES:
        for file, data in oracle.tree(base / f"{name}.theirs").items():
            ours = base / f"{name}.ours" / file
            if not ours.exists() or boxes_of_file(data).keys() != boxes_of_file(ours.read_bytes()).keys():
                continue
            assert len(oracle.as_torch(ours.read_bytes())) == len(data), (name, file)
            equal += 1
    assert equal > 10


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MESHES)
def test_torch_loads_it_into_an_empty_dictionary(base, name):
    full, got = full_tensors(), {}
    _load_state_dict(got, HuggingFaceStorageReader(str(base / f"{name}.ours")), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    assert got.keys() == full.keys()
    assert all(same_bytes(got[n], full[n]) for n in full)


def test_welding_it_is_welding_the_old(base, tmp_path):
    want = weld(base / "old", tmp_path / "old")
    assert len(want) == 4
    for name in MESHES:
        for kind in ("ours", "theirs"):
            assert oracle.difference(weld(base / f"{name}.{kind}", tmp_path / f"{name}.{kind}"), want) == ""


# ---- arithmetic -------------------------------------------------------------------------------------


def torchs_boxes(shape, mesh, places):
    """{(offsets, shape): lowest rank} of the boxes that are not empty."""
    out = {}
    for rank, at in enumerate(product(*map(range, mesh))):
        local, offset = place_of(shape, mesh, list(at), placed(shape, places))
        if 0 not in local:
            out.setdefault((tuple(offset), tuple(local)), rank)
    return out


def test_boxes_of_any_mesh(tmp_path):
    """Thousands of boxes in a few runs: for each mesh there are several rules, and for each of them many shapes."""
    rng = random.Random(5)
    tensors, places = {}, {}
    shapes = [tuple(rng.choice([1, 1, 2, 3, 4, 5, 7, 8, 9, 13]) for _ in range(rng.randint(1, 4))) for _ in range(60)]
    for mesh in ((7,), (2, 3), (4, 4), (2, 2, 3), (1, 5), (3, 1, 2, 2)):
        tensors.clear(), places.clear()
        for r in range(6):
            places[r] = tuple(rng.choice([None, 0, 0, 1, 1, 2, 3]) for _ in mesh)
            for i, shape in enumerate(shapes):
                tensors[f"p{r}.{i}"] = oracle.Tensor("U8", shape, bytes(int(numpy.prod(shape))))
        src, out = tmp_path / f"in{mesh}", tmp_path / f"out{mesh}"
        oracle.write_plain(str(src), tensors, {n: oracle.SINGLE for n in tensors})
        words = [w for r, p in places.items() for w in ("--rule", f"p{r}.*=" + ",".join("replicate" if d is None else f"shard({d})" for d in p))]
        result = reshard(src, out, "--no-sync", *words, mesh=mesh)
        assert result.status == 0 and not result.stderr, show(result)
        got = {n: {} for n in tensors}
        for file, boxes in boxes_of(out).items():
            for n, (offsets, shape, _, _) in boxes.items():
                got[n][offsets, shape] = int(file[6:11]) - 1
        for n, t in tensors.items():
            assert got[n] == torchs_boxes(t.shape, mesh, places[int(n[1])]), (mesh, n)


if __name__ == "__main__":
    assert sum(all_ranks(sys.argv[1], name) for name in sys.argv[2:]) == 0
