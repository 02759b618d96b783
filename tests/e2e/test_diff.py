"""diff: two checkpoints of any kind; equal ones pass without a word, and all that differs is told with numbers."""

import json
import math
import os
import shutil
import struct

import numpy as np
import oracle
import pytest
from oracle import Tensor
from runner import HERE, errors, fails, ok, run, show


def diff(a, b, *options, **more):
    return run(["diff", *options, a, b], **more)


def told(result):
    """Status 1, one message; {tensor: what is said of it}."""
    assert result.status == 1, show(result)
    assert len(errors(result)) == 1, show(result)
    out = {}
    for line in result.stdout.splitlines():
        assert line.startswith("tensor '"), show(result)
        name, _, reason = line[len("tensor '") :].partition("': ")
        assert name not in out, show(result)
        out[name] = reason
    return out


def floats(values, dtype="F32"):
    values = np.asarray(values, "<f4")
    data = (values.view("<u4") >> 16).astype("<u2") if dtype == "BF16" else values
    return Tensor(dtype, values.shape, data.tobytes())


@pytest.fixture
def pair(tmp_path):
    """Write two plain checkpoints of tensors; their paths."""

    def write(a, b):
        paths = []
        for side, tensors in (("a", a), ("b", b)):
            paths.append(str(tmp_path / side))
            os.makedirs(paths[-1])
            oracle.write_plain(paths[-1], tensors, {name: "model.safetensors" for name in tensors})
        return paths

    return write


@pytest.mark.parametrize("np_", [None, 3])
def test_any_kinds_are_the_same(dirs, make, weld, np_):
    src, out = dirs
    make(src, ranks=4)
    ok(weld(src, out, "--max-shard-size", "2KB"))
    one, columns = os.path.join(out, os.pardir, "one"), os.path.join(out, os.pardir, "columns")
    ok(weld(src, one, "--single-file"))
    ok(run(["reshard", "--mesh", "3", "--placements", "shard1", src, columns]))
    kinds = [src, out, one, columns, os.path.join(one, "model.safetensors")]
    for a in kinds[: 1 if np_ else None]:
        for b in kinds:
            result = diff(a, b, "--buffer-size", "4KiB", np=np_)
            ok(result)
            assert not result.stdout, show(result)
    if np_:
        ok(diff(src, columns, "--assign", "owner", np=np_))


def test_a_shard_is_not_all(dirs, make, weld):
    """What other shards hold is not the same, nor another."""
    src, out = dirs
    make(src, ranks=2)
    ok(weld(src, out))
    shard = os.path.join(src, sorted(name for name in os.listdir(src) if name.startswith("shard-00002"))[0])
    for a, b, where in ((shard, out, "A"), (out, shard, "B")):
        said = told(diff(a, b))
        assert any(reason.startswith(f"is not all in {where}: ") for reason in said.values()), said
        assert not any(" differ" in reason for reason in said.values()), said


def test_values(pair, tmp_path):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((50, 40)).astype("<f4")
    y = x.copy()
    changed = [(3, 7), (3, 8), (49, 39)]
    for k, at in enumerate(changed):
        y[at] += np.float32(0.25 * (k + 1))
    same = floats(rng.standard_normal(17))
    a, b = pair({"w": floats(x), "same": same}, {"w": floats(y), "same": same})
    report = str(tmp_path / "report.json")
    reasons = told(diff(a, b, "--report", report, np=3))
    gaps = [abs(float(x[at]) - float(y[at])) for at in changed]
    relative = [g / max(abs(float(x[at])), abs(float(y[at]))) for g, at in zip(gaps, changed)]
    assert list(reasons) == ["w"]
    assert reasons["w"] == (
        f"element [3, 7] is {float(x[3, 7]):.9g} in A, {float(y[3, 7]):.9g} in B; 3 of 2000 elements differ, "
        f"by {max(gaps):.3g} at most (relative {max(relative):.3g})"
    )
    (finding,) = json.load(open(report))["findings"]
    assert finding["differing"] == 3 and finding["tensor"] == "w"
    assert math.isclose(finding["largest"], max(gaps), rel_tol=1e-5)
    assert math.isclose(finding["relative"], max(relative), rel_tol=1e-5)


def test_no_numbers(pair, tmp_path):
    """What is no finite number is infinitely far, and null in JSON."""
    a, b = pair({"w": floats([1, np.nan, np.inf])}, {"w": floats([1, 2, np.inf])})
    report = str(tmp_path / "report.json")
    reasons = told(diff(a, b, "--report", report))
    assert "element [1] is nan in A, 2 in B; 1 of 3 elements differs, by inf at most (relative inf)" == reasons["w"]
    assert json.load(open(report))["findings"][0]["largest"] is None


@pytest.mark.parametrize(
    "options, count",
    [
        ([], 4),
        (["--tolerance", "0.5"], 2),
        (["--tolerance", "1"], 1),
        (["--tolerance", "2%"], 2),
        (["--tolerance", "0.5", "--tolerance", "2%"], 1),
        (["--tolerance", "8"], 0),
    ],
)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_tolerance(pair, options, count, dtype):
    nan = struct.unpack("<f", struct.pack("<I", 0x7FC10000))[0]
    a, b = pair({"w": floats([1, 2, np.nan, -4, 100], dtype)}, {"w": floats([1, 2.5, nan, 4, 101], dtype)})
    result = diff(a, b, *options)
    if not count:
        ok(result)
    else:
        assert f"; {count} of 5 element" in told(result)["w"]


def test_tensors(pair):
    a, b = pair(
        {"gone": floats([1]), "dtype": floats([1, 2]), "shape": floats([[1, 2]]), "x": floats([])},
        {"new": floats([1]), "dtype": floats([1, 2], "BF16"), "shape": floats([[1], [2]]), "x": floats([])},
    )
    for np_ in (None, 2):
        assert told(diff(a, b, np=np_)) == {
            "gone": "is only in A: F32 of shape [1]",
            "new": "is only in B: F32 of shape [1]",
            "dtype": "is F32 of shape [2] in A, BF16 of shape [2] in B",
            "shape": "is F32 of shape [1, 2] in A, F32 of shape [2, 1] in B",
        }
    ok(diff(a, b, "--include", "x"))
    assert set(told(diff(a, b, "--exclude", "dtype", "--exclude", "new"))) == {"gone", "shape"}


def test_made_of_a(pair):
    """Names and values are changed in A alone."""
    x = np.arange(6, dtype="<f4").reshape(2, 3)
    a, b = pair({"module.w": floats(x)}, {"w": floats(x, "BF16")})
    ok(diff(a, b, "--strip-prefix", "module.", "--cast-dtype", "bf16"))
    assert set(told(diff(a, b))) == {"module.w", "w"}


def test_distributed(tmp_path):
    """A distributed checkpoint of torch and what was welded of it."""
    src = os.path.join(HERE, os.pardir, "golden", "distcp_grid", "in")
    out = str(tmp_path / "out")
    ok(run(["consolidate", src, out]))
    ok(diff(src, out))
    ok(diff(out, src, np=2))


def test_manifests(sharded, weld, tmp_path):
    """What both manifests tell alike is not read, and what is not told is; where sizes are others nothing is believed."""
    _, src, out = sharded
    others = [str(tmp_path / name) for name in ("split", "bf16")]
    ok(weld(src, out, "--manifest"))
    ok(weld(src, others[0], "--manifest", "--max-shard-size", "2KB"))
    ok(weld(src, others[1], "--manifest", "--cast-dtype", "bf16"))
    report = str(tmp_path / "report.json")

    def numbers(*words, status=0):
        result = diff(*words, "--report", report, np=3 if status else None)
        assert result.status == status, show(result)
        said = json.load(open(report))
        return said["tensors"], said["unread"], said["bytes"]

    tensors, unread, read = numbers(out, others[0])
    assert tensors == unread > 5 and read == 0
    _, unread, read = numbers(src, out)
    assert unread == 0 and read > 500
    kept, unread, read = numbers(out, others[1], status=1)
    assert 0 < kept == unread < tensors and read == 0
    assert numbers(out, others[1], "--cast-dtype", "bf16")[1] == kept
    # a manifest whose text was changed, one of other files
    path = os.path.join(others[0], "shardweld.manifest.json")
    text = open(path).read()
    open(path, "w").write(text.replace('"consolidate"', '"consolidatE"', 1))
    assert numbers(out, others[0])[1] == 0
    open(path, "w").write("{")
    assert numbers(out, others[0])[1] == 0
    os.remove(path)
    assert numbers(out, others[0])[1] == 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_side_that_is_broken(pair, which):
    """Both have files of one name: the message says which."""
    paths = pair({"w": floats([1, 2])}, {"w": floats([1, 2])})
    path = os.path.join(paths[which], "model.safetensors")
    data = open(path, "rb").read()
    open(path, "wb").write(data[:-1])
    fails(diff(*paths, np=2 if which else None), 3, path)


def test_a_side_that_is_missing(pair, tmp_path):
    a, b = pair({"w": floats([1, 2])}, {"w": floats([1, 2])})
    fails(diff(a, str(tmp_path / "no")), 3, "no such file or directory")
    shutil.rmtree(a)
    os.makedirs(a)
    fails(diff(a, b), 3, "a")


@pytest.mark.parametrize("word", ["", "x", "-1", "1x", "1%%", "nan", "inf", "1 %"])
def test_no_tolerance(pair, word):
    a, b = pair({"w": floats([1])}, {"w": floats([1])})
    fails(diff(a, b, "--tolerance", word), 2, "--tolerance", "expected a number such as 1e-3")
