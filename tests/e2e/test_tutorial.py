"""What the README, the tutorial and the how-tos say, done: each command in a fenced block `sh`, line by line, in a copy of the tree's top.

What a block `text` behind it shows must be printed, line after line; in it … stands for anything. A command that is not run here says why, in
NOT_RUN or below. `make check` runs what needs no torch; `make check-torch` sets SHARDWELD_TUTORIAL=torch, and then all the rest must run too.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import oracle
import pytest
from conftest import Checkpoint, rows, small_tensors
from runner import MPIRUN, ROOT, SHARDWELD, environment
from saving import BUILD

TORCH = os.environ.get("SHARDWELD_TUTORIAL") == "torch"
PAGES = ("README.md", "docs/tutorial.md", "docs/howto.md")
# How a command begins: why it is not run here. Each of them must be there.
NOT_RUN = {
    "make install PREFIX=": "make check-install does",
    "make wheel && pip install": "make wheel and make check-abi do, which installs the wheel into an environment",
    "sbatch slurm/weld.sbatch": "make check-slurm submits it, with relative paths too",
    "make demo": "it has a step of its own in CI, for it looks whether all is built",
    "make check": "this is a part of it",
    "mpirun --host node1:8,node2:8": "make check-nodes does, on three nodes",
    "srun --mpi=pmix": "make check-slurm does, under a SLURM of its own",
    "slurm/submit-after.sh": "make check-slurm does, behind a job",
    "scripts/setup && make": "what is tested here has been made so",
}
# What torch or a package beside it is needed for; without torch nothing on the page of the tutorial makes sense.
NEEDS_TORCH = re.compile(r"\b(torchrun|pip|python|MODEL)\b")

Command = namedtuple("Command", "page line text first shown")  # first of its block


def whole(text):
    """No quotation mark is open and no line goes on."""
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0 and not text.endswith("\\")


def commands(page):
    """Those of all blocks, in their order; what must be shown belongs to the last one of a block."""
    with open(os.path.join(ROOT, page), encoding="utf-8") as f:
        lines = f.read().splitlines()
    out, kind, text, begin, first = [], None, "", 0, True
    for number, line in enumerate(lines, 1):
        if kind is None and line.startswith("```"):
            kind, first = line[3:], True
            assert kind in ("sh", "text"), f"{page}:{number}: a block of {kind!r}, of which nobody knows what to do with it"
            assert kind == "sh" or lines[number - 2] == "```", f"{page}:{number}: what is shown stands right behind its commands"
        elif line == "```":
            assert text == "", f"{page}:{begin}: the command does not end"
            kind = None
        elif kind == "text":
            out[-1].shown.append(line)
        elif kind == "sh":
            begin, text = (begin, f"{text}\n{line}") if text else (number, line)
            if whole(text):
                if text.strip():
                    out.append(Command(page, begin, text, first, []))
                    first = False
                text = ""
    return out


ALL = [c for page in PAGES for c in commands(page)]


def lacks(shown, printed):
    """The lines that are shown and were not printed, in this order."""
    lines = iter(printed.splitlines())
    return [s for s in shown if not any(re.fullmatch(".*".join(map(re.escape, s.split("…"))), line.rstrip()) for line in lines)]


class Shell:
    """A directory with what a clone has, in which commands follow one another: what one exports, sets or enters the next one has."""

    def __init__(self, path, page):
        self.path, self.state, self.printed = str(path), str(path) + ".state", ""
        for name in os.listdir(ROOT):
            if not name.startswith(("build", ".")):
                os.symlink(os.path.join(ROOT, name), os.path.join(path, name))
        os.symlink(os.path.abspath(BUILD), os.path.join(path, "build"))
        env = environment()
        places = [os.path.dirname(SHARDWELD), *([os.path.dirname(sys.executable)] if TORCH else []), env["PATH"]]
        env.update(PATH=os.pathsep.join(places), PYTHONPATH=os.path.join(ROOT, "python"), SHARDWELD_LIBRARY=os.path.abspath(BUILD), OMP_NUM_THREADS="1")
        if TORCH:  # what the page's pip would bring is there, for its virtual environment too
            env["PYTHONPATH"] += os.pathsep + os.path.dirname(os.path.dirname(importlib.util.find_spec("torch").origin))
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            env.pop(name, None)
        self.env = env
        if page != "docs/tutorial.md":  # which makes its own
            tensors = small_tensors(np.random.default_rng(1))
            self.expect = Checkpoint(os.path.join(path, "step-1000"), tensors, rows(tensors, 3)).expect()
            names = oracle.numbered({name: 1 + i % 2 for i, name in enumerate(tensors)})
            oracle.write(os.path.join(path, "published", oracle.INDEX), oracle.consolidated(tensors, names)[oracle.INDEX])
            scaled = {"w.weight": ("F8_E4M3", (256, 128)), "w.weight_scale_inv": ("F32", (2, 1))}
            tensors = {name: oracle.random_tensor(np.random.default_rng(2), *of) for name, of in scaled.items()}
            Checkpoint(os.path.join(path, "fp8-shards"), tensors, rows(tensors, 2))

    def run(self, text):
        script = f'set -a -e -o pipefail; [ ! -e "{self.state}" ] || . "{self.state}"\n{text}\n{{ declare -px; }} >"{self.state}"'
        return subprocess.run(["bash", "-c", script], cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=300, check=False)  # fmt: skip


@functools.lru_cache(maxsize=None)
def broken():
    """Pages on which a command has failed: what follows there means nothing."""
    return set()


@pytest.fixture(scope="module")
def shells(tmp_path_factory):
    return {page: Shell(tmp_path_factory.mktemp(re.sub(r"\W", "-", page)), page) for page in PAGES}


def why_not(command):
    for begin, why in NOT_RUN.items():
        if command.text.startswith(begin):
            return why
    if not TORCH and (command.page == "docs/tutorial.md" or NEEDS_TORCH.search(command.text)):
        return "needs torch: make check-torch runs it"
    if not MPIRUN and "mpirun" in command.text.split("#")[0]:
        return "needs an MPI"
    return None


@pytest.mark.parametrize("command", ALL, ids=lambda c: f"{c.page}:{c.line}")
def test_command(command, shells):
    if why_not(command):
        pytest.skip(why_not(command))
    assert command.page not in broken(), "an earlier command of this page failed"
    shell = shells[command.page]
    done = shell.run(command.text.replace("--nproc-per-node 8", "--nproc-per-node 2"))  # enough, and machines that test are small
    shell.printed = done.stdout if command.first else shell.printed + done.stdout
    if done.returncode or lacks(command.shown, shell.printed):
        broken().add(command.page)
    assert done.returncode == 0, f"{command.text}\nstatus {done.returncode}\n{done.stdout}"
    assert not lacks(command.shown, shell.printed), f"{command.text}\nprinted\n{shell.printed}"
    if "step-1000 welded" in command.text:  # as many people: each has the directory for itself
        welded = os.path.join(shell.path, "welded")
        assert not oracle.difference(oracle.tree(welded), shell.expect)
        shutil.rmtree(welded)


def test_nothing_is_left_out_in_vain():
    """Every reason not to run a command is one of a command that is there."""
    assert not [begin for begin in NOT_RUN if not any(c.text.startswith(begin) for c in ALL)]
