#!/bin/bash
# The Debian packages: built from a copy of this tree as users build them, judged by lintian, installed, used, and removed again.
# For root on Debian or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
[ "$(id -u)" = 0 ] || { echo "deb: installing packages needs root"; exit 1; }
unset MAKEFLAGS MAKELEVEL MFLAGS
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-deb.XXXXXX")
all=(python3-shardweld libshardweld-dev shardweld shardweld-mpi-openmpi libshardweld1)
packages=()
clean_up() {
    [ ${#packages[@]} = 0 ] || dpkg --purge "${packages[@]}" >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap clean_up EXIT

has_none() {
    local name
    for name in "${all[@]}"; do
        ! dpkg -s "$name" >/dev/null 2>&1 || { echo "deb: $name is installed on this machine already"; exit 1; }
    done
}

build() {
    tests/copy_tree.sh "$dir/source"
    (cd "$dir/source" && DEB_BUILD_OPTIONS="parallel=$(nproc) noautodbgsym" dpkg-buildpackage -us -uc -b) >"$dir/build.log" 2>&1 || {
        tail -n 60 "$dir/build.log"
        exit 1
    }
}

# What a package must not be without.
look() {
    local deb=$1
    shift
    local file
    dpkg-deb --contents "$deb" >"$dir/contents"
    for file; do
        grep -qE " \./$file( -> .*)?\$" "$dir/contents" || { echo "deb: ${deb##*/} lacks $file"; exit 1; }
    done
}

use() {
    local library
    shardweld --version
    mpirun -n 2 shardweld consolidate "$top/tests/golden/grid/in" "$dir/out"
    diff -r "$top/tests/golden/grid/out" "$dir/out"
    shardweld verify "$top/tests/golden/grid/in" "$dir/out"
    # Where an image leaves manuals out, there is none to be found.
    if ! grep -rqs 'path-exclude.*man' /etc/dpkg/dpkg.cfg /etc/dpkg/dpkg.cfg.d; then
        man -w shardweld-consolidate sw_checkpoint_read >/dev/null
    fi
    # shellcheck disable=SC2046
    cc -o "$dir/example" "$top/examples/read_slice.c" $(pkg-config --cflags --libs shardweld-mpi)
    library=$(ldd "$dir/example" | sed -n 's/.*libshardweld.so.1 => \([^ ]*\).*/\1/p')
    case $library in
    /usr/lib/* | /lib/*) ;;
    *) echo "deb: the example runs with '$library'"; exit 1 ;;
    esac
    mpirun -n 2 "$dir/example" "$dir/out" >/dev/null
    (cd / && env -u PYTHONPATH -u SHARDWELD_LIBRARY /usr/bin/python3 -c 'import shardweld')
}

# Without the layer there is one process, and never two.
use_alone() {
    local status=0
    dpkg --purge libshardweld-dev shardweld-mpi-openmpi >"$dir/remove.log" 2>&1 || { cat "$dir/remove.log"; exit 1; }
    shardweld --version | grep -q ', layer none$'
    shardweld consolidate "$top/tests/golden/grid/in" "$dir/alone"
    diff -r "$top/tests/golden/grid/out" "$dir/alone"
    mpirun -n 2 shardweld consolidate "$top/tests/golden/grid/in" "$dir/none" 2>"$dir/said" || status=$?
    if [ $status != 2 ] || [ -e "$dir/none" ] || ! grep -q 'libshardweld-mpi-openmpi.so is neither in' "$dir/said"; then
        echo "deb: two processes without a layer end with $status"
        cat "$dir/said"
        exit 1
    fi
}

version=$(sed -n 's/^#define SW_VERSION "\(.*\)"/\1/p' include/shardweld.h)
[ "$(dpkg-parsechangelog -S Version)" = "$version" ] || { echo "deb: debian/changelog is not at $version"; exit 1; }
has_none
build
(cd "$dir" && lintian --allow-root --fail-on error,warning ./*.changes)
look "$dir"/shardweld_*.deb usr/bin/shardweld usr/share/man/man1/shardweld-consolidate.1.gz \
    usr/share/bash-completion/completions/shardweld \
    usr/share/fish/vendor_completions.d/shardweld.fish \
    usr/share/zsh/site-functions/_shardweld
look "$dir"/libshardweld-dev_*.deb usr/include/shardweld.h usr/share/man/man3/sw_consolidate.3.gz
packages=("${all[@]}")
dpkg -i "$dir"/*.deb >"$dir/install.log" 2>&1 || { cat "$dir/install.log"; exit 1; }
look "$dir"/shardweld-mpi-openmpi_*.deb 'usr/lib/.*/shardweld/libshardweld-mpi-openmpi.so'
use
use_alone
dpkg --purge "${packages[@]}" >"$dir/remove.log" 2>&1 || { cat "$dir/remove.log"; exit 1; }
packages=()
for file in /usr/bin/shardweld /usr/share/shardweld /usr/share/doc/shardweld /usr/include/shardweld.h; do
    [ ! -e "$file" ] || { echo "deb: $file was left behind"; exit 1; }
done
echo "deb: built, installed, used and removed"
