"""A small checkpoint, and the cases of welding it that are tried under each launcher."""

import json
import os

import oracle

FUNCTION = "consolidate_safetensors_files_on_every_rank"
SHAPES = {
    "embed.weight": ("BF16", (37, 6)),
    "a.weight": ("F32", (16, 12)),
    "b.weight": ("F32", (5, 9)),
    "c.weight": ("F16", (8, 3, 2)),
    "d.bias": ("I64", (9,)),
    "scale": ("F64", ()),
    "empty": ("U8", (0, 4)),
}
FILES = {name: 1 + i % 2 for i, name in enumerate(SHAPES)}
SIDE = {"config.json": b'{"dtype": "bfloat16"}\n', "tokenizer.json": b"{}\n"}


class Checkpoint:
    """On disk, sharded over four ranks: a by columns, the others by rows; and what it must become."""

    def __init__(self, path, rng):
        self.path = str(path)
        self.tensors = {n: oracle.random_tensor(rng, d, s) for n, (d, s) in SHAPES.items()}
        boxes = {n: self._boxes(n, t.shape) for n, t in self.tensors.items()}
        oracle.write_sharded(self.path, self.tensors, boxes)
        for name, data in SIDE.items():
            oracle.write(os.path.join(self.path, name), data)

    @staticmethod
    def _boxes(name, shape):
        if not shape:
            return [oracle.whole(())]
        return oracle.boxes_of(shape, (4,), (1 if name == "a.weight" else 0,))

    def expect(self, numbers=None, index=oracle.INDEX, tensors=None):
        return oracle.consolidated(tensors or self.tensors, oracle.numbered(numbers or FILES), index)

    def add_metadata(self, dtypes=None):
        """What NeMo Automodel leaves beside its shards."""
        hidden = os.path.join(self.path, ".hf_metadata")
        os.makedirs(hidden, exist_ok=True)
        oracle.write_json(os.path.join(hidden, "fqn_to_file_index_mapping.json"), FILES)
        if dtypes:
            oracle.write_json(os.path.join(hidden, "fqn_to_dtype_mapping.json"), dtypes)
        for name, data in SIDE.items():
            oracle.write(os.path.join(hidden, name), data)
        return hidden


def case(src, out, call=FUNCTION, ranks=None, **args):
    full = {"input_dir": str(src), "output_dir": str(out), "fqn_to_index_mapping": FILES, **args}
    return {"call": call, "args": full, "ranks": {str(r): a for r, a in (ranks or {}).items()}}


class Trial:
    """One case and what must come of it on every rank."""

    def __init__(self, name, given, tree=None, error=None, kinds=(), words=(), out=None):
        self.name, self.given, self.tree, self.error = name, given, tree, error
        self.kinds, self.words = kinds, words
        self.out = out or given["args"]["output_dir"]

    def check(self, said):
        """said: what each rank says."""
        for rank, one in enumerate(said):
            assert one is not None, f"{self.name}: rank {rank} said nothing"
            if self.error is None:
                assert one.get("ok"), f"{self.name}: rank {rank}: {one}"
                continue
            assert one.get("error") == self.error, f"{self.name}: rank {rank}: {one}"
            assert set(self.kinds) <= set(one["kinds"]), one
            for word in self.words:
                assert word in one["text"], f"{self.name}: rank {rank}: {one['text']}"
        if self.tree is not None:
            difference = oracle.difference(oracle.tree(self.out), self.tree)
            assert not difference, f"{self.name}: {difference}"


def trials(checkpoint, tmp_path, np, **more):
    """All that is the same under every launcher; more: arguments of each call."""
    src, out = checkpoint.path, tmp_path / "out"
    lacks = {n: j for n, j in FILES.items() if n != "b.weight"}
    broken = tmp_path / "broken"
    if not broken.exists():
        oracle.write(str(broken / oracle.shard_name(1)), b"\0" * 8)
    last = str(np - 1)
    found = [
        Trial("two files", case(src, out / "two", **more), checkpoint.expect()),
        Trial("what will be replaced", case(src, out / "twice", **more)),
        Trial(
            "a tied weight is left out, the old checkpoint is replaced",
            case(src, out / "twice", **{**more, "fqn_to_index_mapping": {n: 1 for n in [*FILES, "tied"]}}),
            checkpoint.expect({n: 1 for n in FILES}),
        ),
        Trial(
            "no map",
            case(src, out / "single", **{**more, "fqn_to_index_mapping": None}),
            {oracle.SINGLE: oracle.serialize(checkpoint.tensors)},
        ),
        Trial(
            "the map lacks a tensor",
            case(src, out / "lacks", **{**more, "fqn_to_index_mapping": lacks}),
            {},
            "InputError",
            ["ValueError"],
            ["b.weight"],
        ),
        Trial(
            "no input",
            case(tmp_path / "nowhere", out / "none", **more),
            {},
            "MissingError",
            ["FileNotFoundError", "ValueError"],
            ["nowhere"],
        ),
        Trial("a broken shard", case(broken, out / "none", **more), {}, "InputError", ["ValueError"], ["shard-00001"]),
        Trial(
            "a dtype that is none",
            case(src, out / "none", **{**more, "cast_dtype": "int8"}),
            {},
            "UsageError",
            ["ValueError"],
            ["int8"],
        ),
        Trial(
            "a number that is none",
            case(src, out / "none", **{**more, "fqn_to_index_mapping": {"a.weight": "one"}}),
            {},
            "UsageError",
            ["ValueError"],
            ["a.weight", "'one'"],
        ),
        Trial(
            "it is in order again",
            case(src, out / "again", **{**more, "num_threads": 4, "use_staging": True, "staging_dir": str(tmp_path / "staging")}),
            checkpoint.expect(),
        ),
    ]
    if np > 1:
        elsewhere = case("in", str(out / "none"), **more)
        elsewhere["cwd"] = {"*": str(tmp_path), last: str(broken)}
        found[-1:-1] = [
            Trial("one rank does not see the input", elsewhere, {}, "InputError", ["ValueError"], ["shard-0000"]),
            Trial(
                "another directory on one rank",
                case(src, out / "none", ranks={last: {"output_dir": str(out / "other")}}, **more),
                {},
                "UsageError",
                ["ValueError"],
                ["different arguments", "output_dir"],
            ),
            Trial(
                "another map on one rank",
                case(src, out / "none", ranks={last: {"fqn_to_index_mapping": {"x": 1}}}, **more),
                {},
                "UsageError",
                ["ValueError"],
                ["different arguments", "fqn_map_text"],
            ),
            Trial(
                "nonsense on one rank alone",
                case(src, out / "none", ranks={last: {"fqn_to_index_mapping": 7}}, **more),
                {},
                "UsageError",
                ["ValueError"],
                ["fqn_to_index_mapping is 7"],
            ),
        ]
    return found


def run_trials(found, job):
    """job(cases) -> what each rank says of each."""
    said = job([t.given for t in found])
    for i, trial in enumerate(found):
        mine = [one[i] if one is not None and i < len(one) else None for one in said]
        trial.check(mine)


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)
