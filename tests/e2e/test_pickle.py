"""Pickles as the program reads them, beside Python's own reader, which calls nothing but stand-ins."""

import collections
import io
import os
import pickle
import random
import subprocess

import pytest

CHECK = os.path.join(os.environ.get("SHARDWELD_BUILD", "build"), "tests", "pickle_check")


class Thing:
    """Something that a call would have made."""

    def __init__(self, cls, args):
        self.cls, self.args, self.state, self.items = cls, args, None, None


class Global:
    def __init__(self, module, name):
        self.words = f"<{module}.{name}>"


def stand_in(module, name):
    """A class of that name, whose objects remember how they came about."""

    class Stand(Thing):
        words = f"<{module}.{name}>"

        def __new__(cls, *args):
            self = object.__new__(cls)
            Thing.__init__(self, cls, args)
            return self

        def __init__(self, *args):
            pass

        def __setstate__(self, state):
            self.state = state

        def __setitem__(self, key, value):
            self.items = {} if self.items is None else self.items
            self.items[key] = value

    return Stand


class Careful(pickle.Unpickler):
    known = {}

    def find_class(self, module, name):
        return self.known.setdefault((module, name), stand_in(module, name))


def show(v):
    if isinstance(v, Thing):
        state = show(v.state) if v.state is not None else show(v.items)
        if v.cls.words == "<torch.Size>" and len(v.args) == 1 and isinstance(v.args[0], tuple):
            return show(v.args[0])
        return f"@{v.cls.words}{show(v.args)}{state}"
    if isinstance(v, type):
        return v.words
    if v is None:
        return "#0"
    if isinstance(v, bool):
        return "#1"
    if isinstance(v, int):
        return str(v) if 0 <= v < 1 << 59 else "#2" if -(1 << 59) <= v < 0 else "#13"
    if isinstance(v, float):
        return "#3"
    if isinstance(v, str):
        return f"t'{v.encode('utf-8', 'surrogatepass').hex()}'"
    if isinstance(v, (bytes, bytearray)):
        return f"b'{bytes(v).hex()}'"
    if isinstance(v, tuple):
        return "(" + "".join(show(i) + " " for i in v) + ")"
    if isinstance(v, list):
        return "[" + "".join(show(i) + " " for i in v) + "]"
    if isinstance(v, dict):
        return "{" + "".join(show(i) + " " for pair in v.items() for i in pair) + "}"
    raise AssertionError(type(v))


class Record:
    def __init__(self, **members):
        self.__dict__.update(members)


class Given:
    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return (Given, self.args)


def anything(rng, depth):
    kinds = [
        lambda: rng.choice([0, 1, 255, 256, 65535, 65536, -1, (1 << 31) - 1, -(1 << 31), 1 << 31, 1 << 58, (1 << 59) - 1, 1 << 59,
                            -(1 << 59), 1 << 63, 1 << 70]),
        lambda: rng.choice([None, True, False, 1.5, "", "a", "ä" * 3, "x" * 300, b"", b"\x00\xff", b"y" * 300]),
    ]  # fmt: skip
    deep = [
        lambda: tuple(anything(rng, depth - 1) for _ in range(rng.randrange(6))),
        lambda: [anything(rng, depth - 1) for _ in range(rng.choice([0, 1, 3, 5, 30]))],
        lambda: {rng.choice([f"k{i}", i, (i,)]): anything(rng, depth - 1) for i in range(rng.choice([0, 1, 4, 20]))},
        lambda: Record(**{f"m{i}": anything(rng, depth - 1) for i in range(rng.randrange(4))}),
        lambda: Given(*(anything(rng, depth - 1) for _ in range(rng.randrange(3)))),
        lambda: collections.OrderedDict((str(i), anything(rng, depth - 1)) for i in range(rng.randrange(4))),
        lambda: [x := anything(rng, depth - 1), x],
    ]
    return rng.choice(kinds + deep * 2 if depth else kinds)()


def read(data, tmp_path):
    path = tmp_path / "p"
    path.write_bytes(data)
    out = subprocess.run([CHECK, path], capture_output=True, timeout=60, check=False)
    return out.returncode, out.stdout.decode().strip()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_as_python_reads_it(protocol, tmp_path):
    rng = random.Random(protocol)
    for _ in range(60):
        data = pickle.dumps(anything(rng, 4), protocol)
        assert read(data, tmp_path) == (0, show(Careful(io.BytesIO(data)).load()))


def test_many_items(tmp_path):
    """Python puts a thousand items at a time into a container."""
    thing = {"list": list(range(2500)), "dict": {str(i): i for i in range(2500)}}
    data = pickle.dumps(thing, 4)
    assert read(data, tmp_path) == (0, show(thing))


def test_cut_off_anywhere(tmp_path):
    data = pickle.dumps(anything(random.Random(1), 3), 4)
    for n in range(0, len(data), max(1, len(data) // 50)):
        assert read(data[:n], tmp_path)[0] == 3
    assert read(data + b"x", tmp_path)[0] == 3
