"""Checkpoints that real torch wrote, beside what the real serializer makes of their full tensors.

tests/golden/NAME/in is welded, with the words of NAME/args as options (shell quoting; run inside NAME), and
must become NAME/out. With NAME/status it must fail so instead, with each line of NAME/words in the message.
"""

import os
import shlex

import oracle
import pytest
from runner import HERE, fails, ok, run, show

GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
CASES = sorted(n for n in os.listdir(GOLDEN) if os.path.isdir(os.path.join(GOLDEN, n, "in"))) if os.path.isdir(GOLDEN) else []


def words(case, name):
    path = os.path.join(GOLDEN, case, name)
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return f.read().strip()


def test_there_are_golden_checkpoints():
    assert CASES


# Each case alone, and on one of the numbers of ranks.
@pytest.mark.parametrize("case, np", [(c, np) for i, c in enumerate(CASES) for np in (None, (1, 2, 3, 5)[i % 4])])
def test_golden(case, np, tmp_path):
    here = os.path.join(GOLDEN, case)
    args = ["consolidate", *shlex.split(words(case, "args") or ""), "in", tmp_path / "out"]
    result = run(args, np=np, cwd=here)
    status = int(words(case, "status") or 0)
    if status:
        fails(result, status, *(words(case, "words") or "").splitlines())
        assert not (tmp_path / "out").exists() or oracle.tree(tmp_path / "out") == {}
    else:
        assert result.status == 0, show(result)
        assert oracle.difference(oracle.tree(tmp_path / "out"), oracle.tree(os.path.join(here, "out"))) == ""


@pytest.mark.parametrize("case", [c for c in CASES if words(c, "status") is None])
def test_looked_at(case, tmp_path):
    """verify and diff find nothing between what was saved and the weld; the picture and the list of boxes are whole, and the list is the checkpoint."""
    here = os.path.join(GOLDEN, case)
    ok(run(["verify", "-q", *shlex.split(words(case, "args") or ""), "in", "out"], cwd=here))
    ok(run(["diff", "-q", "in", "out"], cwd=here))
    picture = run(["inspect", "--svg", "-", "in"], cwd=here)
    assert picture.status == 0 and picture.stdout.endswith("</svg>\n"), show(picture)
    listed = run(["inspect", "--boxes", "in"], cwd=here)
    assert listed.status == 0, show(listed)
    (tmp_path / "list").write_text(listed.stdout)
    again = run(["inspect", "--boxes", "--boxes-from", tmp_path / "list", "in"], cwd=here)
    assert again.stdout == listed.stdout, show(again)
