"""`python -m shardweld ...`: the program that came with this package, else the one in PATH. It takes the place of this process."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata


def program() -> str | None:
    """Where it is. The installer's list says where it has put it, in any kind of environment; a package that came otherwise (a
    distribution's, a source tree in PYTHONPATH) has none, and another installation's list is not asked."""
    try:
        ours = metadata.distribution("shardweld")
        if os.path.samefile(str(ours.locate_file("shardweld")), os.path.dirname(__file__)):
            for file in ours.files or []:
                if file.parts[-2:] == ("bin", "shardweld"):
                    return os.path.realpath(str(file.locate()))
    except (metadata.PackageNotFoundError, OSError):
        pass
    return shutil.which("shardweld")


def main() -> None:
    path = program()
    try:
        if path:
            os.execv(path, [path, *sys.argv[1:]])
        cause = "it is neither beside this package nor in PATH"
    except OSError as e:
        cause = str(e)
    sys.exit(f"shardweld: error: the program cannot be run: {cause}")


if __name__ == "__main__":
    main()
