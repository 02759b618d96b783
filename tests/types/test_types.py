"""What type checkers find in a user's program, and in the package itself. In an environment that has mypy and pyright; see check-types."""

import os
import re
import subprocess
import sys

import pytest
import shardweld

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = os.path.join(HERE, "program.py")
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-error-summary", "--cache-dir=/dev/null"],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable, "--warnings"],
}


def check(checker, *words):
    """What it says; the package is installed in this environment, as in a user's."""
    done = subprocess.run([sys.executable, *CHECKERS[checker], *words], cwd=HERE, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done
    return done.stdout


def lines_of(said, name):
    """The numbers of the lines that it finds fault with."""
    return {int(number) for number in re.findall(rf"{name}\.py:(\d+)(?::\d+)?(?: -)?:? (?:error|warning)", said)}


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_found_and_nothing_else(checker):
    with open(PROGRAM, encoding="utf-8") as f:
        wrong = {number for number, line in enumerate(f, 1) if line.endswith("# wrong\n")}
    said = check(checker, PROGRAM)
    assert len(wrong) > 20 and lines_of(said, "program") == wrong, said


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_name_has_a_type(checker, tmp_path):
    program = tmp_path / "names.py"
    program.write_text("import shardweld\n" + "".join(f"reveal_type(shardweld.{name})\n" for name in dir(shardweld)))
    said = check(checker, str(program))
    types = re.findall(r"Revealed type is \"(.*)\"|Type of \"shardweld.*?\" is \"(.*)\"", said)
    assert len(types) == len(dir(shardweld)), said
    assert not {"Any", "Unknown", "builtins.object", "Module(\"shardweld\")"} & {a or b for a, b in types}, said


def test_the_package_itself():
    """But for what belongs to torch and MPI, which are not here."""
    options = ["--disable-error-code=import-not-found", "--exclude=dcp", os.path.join(ROOT, "python", "shardweld")]
    assert "error:" not in check("mypy", *options), check("mypy", *options)
