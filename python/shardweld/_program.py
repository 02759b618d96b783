"""What only the program can do: it draws the picture of a checkpoint. Where it is, and how it is called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .__main__ import program
from ._errors import UsageError
from ._library import encode_path, lib

if TYPE_CHECKING:
    from .options import PathLike

# What launchers leave in the environment of a rank: the program that a rank starts is none.
_LAUNCHERS = ("OMPI_", "PMI_", "PMIX_", "SLURM_", "HYDRA_", "TORCHELASTIC_")


def draw(path: PathLike, tensors: Sequence[str], boxes: PathLike | None, boxes_anywhere: bool) -> str:
    """How the shards tile the tensors whose names match, else the first ones that are sharded: an SVG document.

    Raises:
        FileNotFoundError: the program is not there
        UsageError: no tensor matches; what else the program says
    """
    operand = _text(path)
    words = ["--svg=-", os.path.join(".", operand) if operand.startswith("-") else operand, *(f"--tensor={glob}" for glob in tensors)]
    if boxes is not None:
        words.append(f"--boxes-from={_text(boxes)}")
    if boxes_anywhere:
        words.append("--boxes-anywhere")
    return _run(["inspect", *words])


def _text(path: PathLike) -> str:
    return os.fsdecode(encode_path(path))


def _find() -> str:
    """The program: beside the library, as in a build or an installation, else where the package knows it."""
    directory = os.path.dirname(os.path.realpath(lib()._name)) if os.path.sep in lib()._name else None
    near = [os.path.join(directory, *parts, "shardweld") for parts in ((), ("..", "bin"))] if directory else []
    found = next((path for path in near if os.path.isfile(path) and os.access(path, os.X_OK)), None) or program()
    if found is None:
        raise FileNotFoundError("the program shardweld is neither beside its library, nor with this package, nor in PATH")
    return found


def _run(words: Sequence[str]) -> str:
    """What it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_LAUNCHERS) and k not in ("RANK", "WORLD_SIZE")}
    environment["SHARDWELD_MPI"] = "none"
    done = subprocess.run([_find(), *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0 and not done.stdout:  # where something is wrong with the checkpoint there is a picture all the same
        raise UsageError(done.stderr.decode(errors="replace").strip().replace("shardweld: error: ", ""))
    return done.stdout.decode("utf-8", "surrogateescape")
