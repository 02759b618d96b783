"""Pickles as the program reads them, beside Python's own reader, which calls nothing but stand-ins."""

import collections
import glob
import io
import os
import pickle
import random
import struct
import subprocess
import zipfile

import pytest
from runner import HERE

CHECK = os.path.join(os.environ.get("SHARDWELD_BUILD", "build"), "tests", "pickle_check")
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
DEPTH, SHOWN_MAX = 60, 20000  # of pickle_check


# ---- Python's reader ------------------------------------------------------------------------------


class Pairs(list):
    """A dict as it was filled: what Python would drop, and what it would not take for a key, is seen too."""

    def __setitem__(self, key, value):
        self.append((key, value))


class Several(list):
    """A set as it was filled."""

    def add(self, item):
        self.append(item)


class Thing:
    """Something that a call would have made: its class, its arguments, and what was put into it later."""

    def __setstate__(self, state):
        self.state = state

    def filled(self, kind):
        if self.state is None:
            self.state = kind()
        if type(self.state) is not kind:
            raise TypeError("items for what takes none")
        return self.state

    def __setitem__(self, key, value):
        self.filled(Pairs)[key] = value

    def append(self, item):
        self.filled(list).append(item)

    def extend(self, items):
        self.filled(list).extend(items)

    def add(self, item):
        self.filled(Several).add(item)


class Persistent:
    def __init__(self, name):
        self.name = name


def stand_in(module, name):
    """A class of that name, of which nothing but that is known."""

    class Stand(Thing):
        words = f"<'{encoded(module).hex()}''{encoded(name).hex()}'>"
        is_size = (module, name) == ("torch", "Size")

        def __new__(cls, *args):
            self = object.__new__(cls)
            self.args, self.state = args, None
            return self

        def __init__(self, *args):
            pass

    return Stand


class Careful(pickle._Unpickler):  # noqa: SLF001 - the one in C cannot be taught containers
    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: SLF001

    def __init__(self, data):
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
        self.known = {}

    def find_class(self, module, name):
        return self.known.setdefault((module, name), stand_in(module, name))

    def persistent_load(self, pid):
        return Persistent(pid)

    def empty_dict(self):
        self.append(Pairs())

    def a_dict(self):
        items = self.pop_mark()
        self.append(Pairs((items[i], items[i + 1]) for i in range(0, len(items), 2)))

    def empty_set(self):
        self.append(Several())

    def a_set(self):
        items = self.pop_mark()
        self.append(Several(items))

    def add_items(self):
        items = self.pop_mark()
        for item in items:
            self.stack[-1].add(item)

    dispatch.update({pickle.EMPTY_DICT[0]: empty_dict, pickle.DICT[0]: a_dict, pickle.EMPTY_SET[0]: empty_set,
                     pickle.FROZENSET[0]: a_set, pickle.ADDITEMS[0]: add_items})  # fmt: skip


class Shower:
    """The line that pickle_check prints."""

    def __init__(self):
        self.shown = 0

    def show(self, v, depth=DEPTH):
        self.shown += depth > 0
        if depth == 0 or self.shown > SHOWN_MAX:
            return "..."
        below = depth - 1
        if isinstance(v, Persistent):
            return "@" + self.show(None, below) + self.show(v.name, below) + self.show(None, below)
        if isinstance(v, Thing):
            if type(v).is_size and v.args and isinstance(v.args[0], tuple):
                return self.all("()", v.args[0], below)
            return "@" + self.show(type(v), below) + self.show(v.args, below) + self.show(v.state, below)
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
            return f"t'{encoded(v).hex()}'"
        if isinstance(v, (bytes, bytearray)):
            return f"b'{bytes(v).hex()}'"
        if isinstance(v, tuple):
            return self.all("()", v, below)
        if isinstance(v, (Pairs, dict)):
            pairs = v.items() if isinstance(v, dict) else v
            return self.all("{}", [i for pair in pairs for i in pair], below)
        if isinstance(v, Several):
            return self.all("{}", v, below)
        if isinstance(v, list):
            return self.all("[]", v, below)
        raise AssertionError(type(v))

    def all(self, brackets, items, depth):
        return brackets[0] + "".join(self.show(i, depth) + " " for i in items) + brackets[1]


def encoded(text):
    try:
        return text.encode("utf-8", "surrogatepass")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def by_python(data):
    return Shower().show(Careful(data).load())


def by_us(pickles, tmp_path):
    """A line for each."""
    paths = []
    for i, data in enumerate(pickles):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(data)
    out = subprocess.run([CHECK, *paths], capture_output=True, timeout=120, check=False)
    assert out.returncode in (0, 3), out
    lines = out.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]
    assert len(lines) == len(paths)
    return lines


# ---- what Python's writer makes -------------------------------------------------------------------


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
        lambda: {rng.randrange(9) for _ in range(rng.randrange(4))},
        lambda: [x := anything(rng, depth - 1), x],
    ]
    return rng.choice(kinds + deep * 2 if depth else kinds)()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_as_python_reads_it(protocol, tmp_path):
    rng = random.Random(protocol)
    pickles = [pickle.dumps(anything(rng, 4), protocol) for _ in range(200)]
    assert by_us(pickles, tmp_path) == [by_python(data) for data in pickles]


def test_many_items(tmp_path):
    """Python puts a thousand items at a time into a container."""
    data = pickle.dumps({"list": list(range(2500)), "dict": {str(i): i for i in range(2500)}}, 4)
    assert by_us([data], tmp_path) == [by_python(data)]


# ---- what real producers wrote, and what became of it -----------------------------------------------


def items_of(directory, metadata):
    """The data.pkl of each item, as .metadata places it."""
    for _, info in storage_of(metadata):
        where = dict(info.state)
        with open(os.path.join(directory, where["relative_path"]), "rb") as f:
            f.seek(where["offset"])
            item = f.read(where["length"])
        if item[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(item)) as z:
                yield z.read(next(n for n in z.namelist() if n.endswith("/data.pkl")))


def storage_of(metadata):
    return dict(Careful(metadata).load().state)["storage_data"]


def corpus():
    """Every .metadata that is golden, and every kind of data.pkl."""
    whole, small = [], {}
    for path in sorted(glob.glob(os.path.join(GOLDEN, "*", "in", ".metadata"))):
        with open(path, "rb") as f:
            whole.append(f.read())
        for data in items_of(os.path.dirname(path), whole[-1]):
            small[by_python(data)] = data
    return whole, list(small.values())


def mutated(rng, data, others):
    """Bytes that are other bytes or opcodes, that are gone, or that stand twice; or the end of another pickle."""
    data = bytearray(data)
    opcodes = [code for name, code in vars(pickle).items() if name.isupper() and isinstance(code, bytes) and len(code) == 1]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, n = rng.randrange(2, len(data)), rng.choice([1, 1, 2, 5, 20])
        data[at : at + rng.choice([0, n])] = rng.choice([
            bytes([rng.randrange(256)]), rng.choice(opcodes), rng.choice(opcodes), b"", bytes(data[at : at + n]) * 2])  # fmt: skip
        if len(data) < 4:
            return bytes(others)
    if rng.random() < 0.05:
        data[rng.randrange(2, len(data)) :] = others[rng.randrange(len(others)) :]
    return bytes(data)


# Where we are stricter than Python: what no producer of checkpoints does.
STRICTER = ("none that checkpoints are written with", "values are left over", "behind its end", "a protocol that is not 2 to 5",
            "a memo number that is too large", "a call without a tuple", "items for what takes none", "no protocol 2 to 5")  # fmt: skip
# Where Python is stricter, since it does what a pickle says: texts are decoded, classes made and called, states set, frames kept.
PYTHONS = (UnicodeError, TypeError, AttributeError, pickle.UnpicklingError)


def is_frame(data, ours):
    """A frame that says to be longer than the text: Python reads on all the same."""
    return "cut off at byte" in ours and data[int(ours.split()[-1])] == pickle.FRAME[0]


@pytest.mark.parametrize("seed", range(int(os.environ.get("ROUNDS", "2"))))
def test_mutations_as_python_reads_them(seed, tmp_path):
    rng = random.Random(seed)
    whole, small = corpus()
    assert len(whole) >= 13 and len(small) >= 60
    seeds = small * 5 + [w for w in whole if len(w) < 6000] + [pickle.dumps(anything(rng, 3), rng.choice([2, 4])) for _ in range(60)]
    pickles = whole + small + [mutated(rng, rng.choice(seeds), rng.choice(small)) for _ in range(1500)]
    equal = 0
    for i, (data, ours) in enumerate(zip(pickles, by_us(pickles, tmp_path))):
        try:
            theirs = by_python(data)
        except (*PYTHONS, IndexError, KeyError, EOFError, ValueError, OverflowError, MemoryError, struct.error) as e:
            assert ours[0] == "!" or isinstance(e, PYTHONS), (data, ours, e)
            assert i >= len(whole) + len(small)
            continue
        if ours[0] == "!":
            assert any(words in ours for words in STRICTER) or is_frame(data, ours), (data, ours)
        else:
            assert ours == theirs, data
            equal += 1
    assert equal > len(whole) + len(small) + 100


# ---- memory -----------------------------------------------------------------------------------------

BOMBS = {
    "marks": b"(", "None": b"N", "empty tuples": b")", "empty dicts": b"}", "empty lists": b"]", "sets": b"\x8f", "memo": b"N\x94",
    "tuples of one": b")\x85", "a memo that doubles": b"h\x00h\x00\x86q\x00", "objects": b"h\x00)R", "names": b"U\x00U\x00\x93",
    "appended": b"]Na", "persistent": b"NQ", "dicts of one": b"}NNs", "filled": b"](Ne", "numbers of the memo": b"Nr\x00\x00\x08\x00",
}  # fmt: skip


def peak_of(path):
    """KiB that pickle_check takes for a file."""
    with subprocess.Popen([CHECK, path], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 3)
    return used.ru_maxrss


@pytest.mark.parametrize("name", BOMBS)
def test_memory_in_proportion(name, tmp_path):
    """Whatever fills it: at most 64 bytes for each of the input."""
    n = 1 << 20
    data = b"\x80\x04]q\x00" + BOMBS[name] * (n // len(BOMBS[name])) + b"."
    (tmp_path / "bomb").write_bytes(data)
    (tmp_path / "none").write_bytes(b"\x80\x02N.")
    assert peak_of(tmp_path / "bomb") - peak_of(tmp_path / "none") <= 64 * len(data) >> 10
