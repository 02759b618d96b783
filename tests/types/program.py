"""A program as a user would write it. What type checkers must find stands on lines that end so: # wrong. On all others they find nothing."""

import pathlib
from typing import Any

import numpy as np
import shardweld
from shardweld import Box, Checkpoint, WeldResult, consolidate, load, reshard, save, weld


def welds(directory: pathlib.Path) -> WeldResult:
    weld(3)  # wrong
    weld("a")  # wrong
    weld("a", "b", overwrit=True)  # wrong
    weld("a", "b", overwrite="yes")  # wrong
    weld("a", "b", max_shard_size=0.5)  # wrong
    weld("a", "b", assign="rows")  # wrong
    weld("a", "b", comm="others")  # wrong
    weld("a", "b", progress=3)  # wrong
    weld("a", "b", everything=True)  # wrong
    weld("a", "b", include=[1])  # wrong
    weld("a", "b", cast_dtype=3)  # wrong
    weld("a", "b", name_rules=[("strip", "a", "b")])  # wrong
    count: str = weld("a", "b").tensors  # wrong
    print(count)
    weld(b"a", directory, overwrite=True, cast_dtype=np.float32, max_shard_size="5GB", name_rules=[("strip", "model."), ("rename", "a", "b")])
    weld("a", "b", comm=None, progress=lambda done, total: print(done, total), include="*.weight", block_size=(128, 64), buffer_size=1 << 20)
    weld("a", "b", dtype_map_text=None, comm="self", progress=True, no_config_check=True, hints=["a=b"])
    return consolidate("a", "b", like="x.index.json", store="stream", verify=True)


def reshards() -> None:
    reshard("a", "b", 4)  # wrong
    reshard("a", "b", "4", diffusers=True)  # wrong
    reshard("a", "b", "2x4", "shard0,replicate", ["*.experts.*=shard1,shard0"], overwrite=True, progress=True)


def loads(state: dict[str, Any]) -> None:
    x: int = load("a")  # wrong
    whole: dict[str, int] = load("a")  # wrong
    load("a", framwork="torch")  # wrong
    load("a", framework="jax")  # wrong
    load("a", dtype=1)  # wrong
    load("a", 3)  # wrong
    load("a", box=3)  # wrong
    load("a", device=0.5)  # wrong
    load("a", into=state, device="cuda")  # wrong
    print(x, whole, load("a", device="cuda:0", mmap=True), load("a", framework="torch", mesh=8, coordinate=3))
    array: "np.ndarray[Any, Any]" = load("a", "w", box=((0, 0), (64, 4096)), threads=4)["w"]
    filled: dict[str, Any] = load("a", into=state)
    doubles: dict[str, "np.ndarray[Any, np.dtype[np.float64]]"] = load("a", into={"w": np.zeros(3)})
    load("a", mesh=(2, 4), coordinate=(1, 3), placements=["replicate", "shard0"], dtype="bf16")
    print(array.shape, filled, doubles, load(pathlib.Path("a"), ["v", "w"], dtype=np.float32))


def saves(state: dict[str, Any]) -> None:
    save("a", {"w": "text"})  # wrong
    save("a", {"w": np.ones(3)}, overwrit=True)  # wrong
    save("a", {"w": np.ones(3)}, expect_shards=3)  # wrong
    save("a", {"w": np.ones(3), "step": 7, "rows": Box(np.ones(3), (0,), (6,)), "two": [Box(np.ones(3))]}, max_shard_size="5GB")
    save("a", state, consolidated=False, overwrite=True, comm="self")


def verifies() -> bool:
    shardweld.verify("a", "b", verify=True)  # wrong
    shardweld.inspect("a", json=True)  # wrong
    shardweld.inspect("a").tensors[0].size  # wrong
    found: list[str] = [f.hint for f in shardweld.inspect("a", expect_shards=8).findings]
    verification = shardweld.verify("a", "b", like="x.index.json", progress=True)
    print(found, verification.stats, shardweld.inspect("a").svg("*.w1.weight"))
    return verification.ok


def looks() -> int:
    with Checkpoint("a", expect=3) as cp:  # wrong
        cp.tensor("w").size  # wrong
    with Checkpoint("a", expect_shards=8, block_size=128, tolerant=True) as cp:
        names: list[str] = [name for name in cp if cp.tensor(name).scale is None]
        rows: "np.ndarray[Any, Any]" = cp.read(names[0], (0, 0), (1, 2), dtype="float32")
        print(rows, cp.read(names[0], out=np.ones(3)).dtype)
    try:
        shardweld.install()
    except shardweld.InputError as e:
        return e.exit_status + (e.rank or 0)
    except shardweld.Erorr:  # wrong
        pass
    return shardweld.Code.OK
