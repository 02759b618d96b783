"""Spack's recipe for shardweld. `spack repo add packaging/spack` in a clone, then `spack install shardweld`.

`make dist` writes it to build/dist/recipes/spack with the release's address and checksum, and without what is for a clone.
"""

from pathlib import Path  # clone

from spack.package import *

try:
    from spack_repo.builtin.build_systems.makefile import MakefilePackage
except ImportError:  # before Spack 1.0 it came with spack.package
    pass


class Shardweld(MakefilePackage):
    """Weld sharded safetensors checkpoints into whole ones, in parallel: a program and a C library, alone or over MPI."""

    # The one that this file lies in. # clone
    git = str(Path(__file__).resolve().parents[4])  # clone
    version("main", branch="main")  # clone
    # release: url = "@URL@/shardweld-@VERSION@.tar.xz"
    # release: version("@VERSION@", sha256="@SHA256@")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("cmocka", type="test")
    depends_on("jansson")
    variant("mpi", default=True, description="ranks, by a layer for one MPI")
    depends_on("mpi", when="+mpi")

    @property
    def build_targets(self):
        return ["all"] + self.make_args

    @property
    def install_targets(self):
        return ["install"] + self.make_args

    @property
    def make_args(self):
        mpi = f"MPICC={self.spec['mpi'].mpicc}" if self.spec.satisfies("+mpi") else "MPI=none"
        return [mpi, f"PREFIX={self.prefix}"]

    def check(self):
        """The units only: they need neither a launcher nor a network."""
        with working_dir(self.stage.source_path):
            make("check-unit", *self.make_args)

    def test_version(self):
        """the program tells its version"""
        shardweld = which(self.prefix.bin.shardweld)
        assert "shardweld" in shardweld("--version", output=str.split)
