"""What hatchling asks while it makes a wheel or an sdist of this tree.

A wheel carries what make has built: in the package the library and the layers, in the environment's bin the program itself (no Python starts
before it), below its lib the layers once more, where the program looks, and the man pages and the completion in share. SHARDWELD_BUILT
is the directory where they were built, SHARDWELD_PLATFORM what the wheel runs on; without them they are built here and now, without MPI,
for this machine, in a directory that goes away. Where there is no compiler or no make, the wheel is Python alone.

An sdist carries the sources of jansson, so that nothing but a compiler and make is needed (JANSSON says where they are), and tells its commit.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

JANSSON = "jansson"  # in an sdist
SONAME = "libshardweld.so.1"


class WheelHook(BuildHookInterface):
    def initialize(self, version, build_data):
        if self.target_name == "sdist":
            self._carry_jansson(build_data)
            self._carry_commit(build_data)
        elif version != "editable":
            self._carry_built(build_data)

    def finalize(self, version, build_data, artifact_path):
        """hatchling has read them."""
        if getattr(self, "_made", None):
            shutil.rmtree(self._made)

    # ---- sdist ----------------------------------------------------------------------------------

    def _carry_jansson(self, build_data):
        source = os.environ.get("JANSSON") or os.path.join(self.root, JANSSON)
        if not os.path.isdir(source):
            self.app.display_warning("without jansson's sources: `make sdist` brings them")
            return
        files = [*Path(source, "src").glob("*.[ch]"), Path(source, "LICENSE")]
        for path in files:
            build_data["force_include"][str(path)] = f"{JANSSON}/{path.relative_to(source)}"

    def _carry_commit(self, build_data):
        """In place of the words that `git archive` would replace. A tree with changes has none."""
        script = os.path.join(self.root, "scripts", "commit")
        commit = subprocess.run([script], capture_output=True, text=True, check=True).stdout.strip()
        if commit and not commit.endswith("-dirty"):
            self._made = tempfile.mkdtemp(prefix="shardweld-sdist.")
            path = Path(self._made, "commit")
            path.write_text(f"{commit}\n", encoding="utf-8")
            build_data["force_include"][str(path)] = "packaging/commit"

    # ---- wheel ----------------------------------------------------------------------------------

    def _carry_built(self, build_data):
        built = os.environ.get("SHARDWELD_BUILT") or self._make()
        if built is None:
            return
        platform = os.environ.get("SHARDWELD_PLATFORM") or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data.update(pure_python=False, tag=f"py3-none-{platform}")
        built = Path(built)
        package = build_data["force_include"]
        data, scripts = build_data["shared_data"], build_data["shared_scripts"]
        package[str((built / SONAME).resolve())] = f"shardweld/{SONAME}"
        for layer in built.glob("libshardweld-mpi-*.so"):
            package[str(layer)] = f"shardweld/{layer.name}"
            data[str(layer)] = f"lib/shardweld/{layer.name}"
        scripts[str(built / "shardweld")] = "shardweld"
        for page in (built / "man" / "man1").glob("*.1"):
            data[str(page)] = f"share/man/man1/{page.name}"
        data[str(built / "completion.bash")] = "share/bash-completion/completions/shardweld"
        data[str(built / "completion.zsh")] = "share/zsh/site-functions/_shardweld"
        data[str(built / "completion.fish")] = "share/fish/vendor_completions.d/shardweld.fish"

    def _make(self):
        """Build in a directory of our own; None = it cannot be done here."""
        compiler = (os.environ.get("CC") or "cc").split()[0]
        missing = [tool for tool in (compiler, "make") if not shutil.which(tool)]
        if missing:
            self.app.display_warning(
                f"no {' and no '.join(missing)}: the package is made without the library, which SHARDWELD_LIBRARY may name"
            )
            return None
        self._made = tempfile.mkdtemp(prefix="shardweld-build.")
        command = ["make", "-s", f"-j{os.cpu_count() or 1}", "all", "MPI=none", f"BUILD={self._made}", f"CFLAGS={os.environ.get('CFLAGS', '-O2')}"]
        if os.path.isdir(os.path.join(self.root, JANSSON)):
            command.append(f"JANSSON={JANSSON}")
        try:
            subprocess.run(command, cwd=self.root, check=True, stdout=sys.stderr)
        except subprocess.CalledProcessError as e:
            shutil.rmtree(self._made)
            raise SystemExit(f"shardweld: {' '.join(command)} failed with status {e.returncode}") from None
        return self._made
