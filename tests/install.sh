#!/bin/bash
# Pack a release's sources, and go on with these, which have no git: install into a directory, and build against it as users do, with
# nothing but pkg-config, in C and C++, shared and static. Then everything is gone after make uninstall, and nothing else. The places may
# be others, with spaces in their names, below DESTDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-install.XXXXXX")
top=/${dir##*/} # a place in the root directory, for root
trap 'rm -rf "$dir" "$top"' EXIT
version=$(sed -n 's/^#define SW_VERSION "\(.*\)"/\1/p' include/shardweld.h)

# A clone of its own, since this one may have changes.
tests/copy_tree.sh "$dir/clone"
# shellcheck disable=SC2016
echo '$Format:%H$' >"$dir/clone/packaging/commit"
git -C "$dir/clone" init -q
git -C "$dir/clone" add -A
git -C "$dir/clone" -c user.name=none -c user.email=none -c commit.gpgsign=false commit -qm none
for dist in dist again; do
    make -s -C "$dir/clone" dist-source DIST="$dir/$dist" BUILD="$dir/build" RELEASE_URL=https://example.org/v
done
archive=shardweld-$version.tar.xz
cmp "$dir/dist/$archive" "$dir/again/$archive"
sum=$(sha256sum <"$dir/dist/$archive" | cut -d' ' -f1)
recipes=$dir/dist/recipes
grep -qx "    version(\"$version\", sha256=\"$sum\")" "$recipes/spack/packages/shardweld/package.py"
grep -qx "    url = \"https://example.org/v/$archive\"" "$recipes/spack/packages/shardweld/package.py"
grep -qx "  url: https://example.org/v/$archive" "$recipes/conda/recipe.yaml"
grep -qx "  sha256: $sum" "$recipes/conda/recipe.yaml"
if grep -rE '@[A-Z0-9]+@|# clone|# release' "$recipes"; then exit 1; fi
# Spack is not at hand where this runs: at least the recipes are Python.
for recipe in "$dir/clone/packaging" "$recipes"; do
    python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$recipe/spack/packages/shardweld/package.py"
done
commit=$(git -C "$dir/clone" rev-parse --short=12 HEAD)
echo >>"$dir/clone/README.md"
said=$(make -s -C "$dir/clone" dist-source DIST="$dir/again" BUILD="$dir/build" 2>&1) && { echo "a release of what is not committed"; exit 1; }
[[ $said = *"packs what is committed"*"M README.md"* ]] || { echo "make dist says: $said"; exit 1; }
tar -C "$dir" -xf "$dir/dist/$archive"
cd "$dir/shardweld-$version"
said=$(make -s dist-source DIST="$dir/again" BUILD="$dir/build" 2>&1) && { echo "a release of what is no clone"; exit 1; }
[[ $said = *"this is no clone"* ]] || { echo "make dist says: $said"; exit 1; }

make -s install PREFIX="$dir/prefix" BUILD="$dir/build" | tee "$dir/said"
export PKG_CONFIG_PATH=$dir/prefix/lib/pkgconfig

cat >"$dir/user.c" <<'END'
#include <shardweld.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    sw_comm comm = sw_comm_self();
    sw_status st = SW_STATUS_INIT;
    char text[2048];

    if (argc != 3 || sw_consolidate(&comm, argv[1], argv[2], NULL, NULL, &st))
        puts(sw_status_message(&st, text, sizeof text));
    return sw_code_exit_status(st.code);
}
END
cat >"$dir/user.cc" - "$dir/user.c" <<'END'
#include <shardweld.h>
struct sized {
    sw_options options;
    sw_result result;
    sw_sharding sharding;
    sw_verification verification;
    sw_read_options reading;
    sw_watchdog_options watching;
};
int count_sizes(void);
int count_sizes(void)
{
    const sized s = { SW_OPTIONS_INIT,      SW_RESULT_INIT,       SW_SHARDING_INIT,
                      SW_VERIFICATION_INIT, SW_READ_OPTIONS_INIT, SW_WATCHDOG_OPTIONS_INIT };

    return static_cast<int>(s.options.size + s.result.size);
}
END
# shellcheck disable=SC2046
{
    ${CC:-cc} -Wall -Werror -o "$dir/shared" "$dir/user.c" $(pkg-config --cflags --libs shardweld)
    c++ -Wall -Wextra -Wzero-as-null-pointer-constant -Werror -o "$dir/shared++" "$dir/user.cc" $(pkg-config --cflags --libs shardweld)
    ${CC:-cc} -Wall -Werror -o "$dir/static" "$dir/user.c" $(pkg-config --cflags shardweld) \
        "$dir/prefix/lib/libshardweld.a" $(pkg-config --libs --static shardweld | sed 's/-lshardweld//')
}
for program in shared shared++ static; do
    LD_LIBRARY_PATH="$dir/prefix/lib" "$dir/$program" tests/golden/rows/in "$dir/out-$program"
    diff -r tests/golden/rows/out "$dir/out-$program"
done
"$dir/prefix/bin/shardweld" --version | grep "^shardweld $version, commit $commit, "

# What was said at the end is what a shell needs, and so is the module, in both languages.
cat >"$dir/needs" <<'END'
set -eu
[ "$(command -v shardweld)" = "$1/prefix/bin/shardweld" ]
[ "$(man -w shardweld-consolidate)" = "$1/prefix/share/man/man1/shardweld-consolidate.1" ]
case $(man -w) in */usr/share/man*) ;; *) false ;; esac
[ "$(pkg-config --variable=libdir shardweld)" = "$1/prefix/lib" ]
rm -rf "$1/out" && "$1/shared" tests/golden/rows/in "$1/out" && diff -r tests/golden/rows/out "$1/out"
END
clean=(env -i PATH=/usr/bin:/bin HOME="$dir")
# shellcheck disable=SC2016
grep '^    export' "$dir/said" | "${clean[@]}" bash -c 'eval "$(cat)"; . "$1" "$2"' - "$dir/needs" "$dir"
modules=$dir/prefix/share/shardweld/modulefiles
grep -qF "module use '$modules' && module load shardweld" "$dir/said"
lmod=$(find /usr/share/lmod -path '*/libexec/lmod' | head -n 1)
load_module() {
    # shellcheck disable=SC2016
    "${clean[@]}" MODULEPATH="$modules" LMOD_SYSTEM_DEFAULT_MODULES='' \
        bash -c 'eval "$("$1" bash load shardweld)"; [ "$LOADEDMODULES" = "$4" ]; . "$2" "$3"' - "$lmod" "$dir/needs" "$dir" "shardweld/$version"
}
load_module
mv "$modules/shardweld/$version.lua" "$dir/away.lua"
load_module
mv "$dir/away.lua" "$modules/shardweld/$version.lua"

# Programs that speak MPI themselves: the library loads the layer, the archive has it.
cat >"$dir/ranks.c" <<'END'
#include <shardweld_mpi.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    sw_comm comm = sw_comm_self();
    sw_status st = SW_STATUS_INIT;
    char text[2048];

    sw_transport_defaults(argc > 2 ? argv[2] : NULL);
    MPI_Init(&argc, &argv);
    if (argc != 3 || sw_comm_from_mpi(MPI_COMM_WORLD, &comm, &st) ||
        sw_consolidate(&comm, argv[1], argv[2], NULL, NULL, &st))
        puts(sw_status_message(&st, text, sizeof text));
    else if (comm.rank == 0)
        printf("%d ranks by layer %s\n", comm.size, sw_mpi_kind());
    sw_comm_mpi_release(&comm);
    MPI_Finalize();
    return sw_code_exit_status(st.code);
}
END
cp "$dir/ranks.c" "$dir/ranks.cc"
layer=$(basename "$dir"/prefix/lib/shardweld/libshardweld-mpi-*.so .so)
# shellcheck disable=SC2046
{
    ${CC:-cc} -Wall -Werror -o "$dir/mpi" "$dir/ranks.c" $(pkg-config --cflags --libs shardweld-mpi)
    c++ -Wall -Werror -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX -o "$dir/mpi++" "$dir/ranks.cc" $(pkg-config --cflags --libs shardweld-mpi)
    ${CC:-cc} -Wall -Werror -o "$dir/mpi-static" "$dir/ranks.c" $(pkg-config --cflags shardweld-mpi) \
        "$dir/prefix/lib/libshardweld.a" $(pkg-config --libs --static shardweld-mpi | sed 's/-lshardweld//')
}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
weld_by_ranks() {
    local said
    said=$(LD_LIBRARY_PATH="$dir/prefix/lib" mpirun -n 2 "$1" tests/golden/rows/in "$1-out")
    [ "$said" = "2 ranks by layer ${layer#libshardweld-mpi-}" ] || { echo "${1##*/}: $said"; exit 1; }
    diff -r tests/golden/rows/out "$1-out"
}
weld_by_ranks "$dir/mpi"
weld_by_ranks "$dir/mpi++"
mv "$dir/prefix/lib/shardweld" "$dir/away"
weld_by_ranks "$dir/mpi-static"
mv "$dir/away" "$dir/prefix/lib/shardweld"

# The examples, by the line that each has at its head. What speaks no MPI needs none, alone and under mpirun.
for example in "$dir"/prefix/share/doc/shardweld/examples/*.c; do
    line=$(sed -n 's/^ \* *\(cc .* -o .*\)$/\1/p' "$example")
    [ -n "$line" ] || { echo "${example##*/} does not say how it is built"; exit 1; }
    (cd "$dir" && ln -s "$example" . && eval "${line/#cc/${CC:-cc} -Wall -Wextra -Werror}")
done
(
    export LD_LIBRARY_PATH=$dir/prefix/lib
    mpirun -n 2 "$dir/save_sharded" "$dir/saved" >/dev/null
    "$dir/read_slice" "$dir/saved" >"$dir/alone"
    mpirun -n 3 "$dir/read_slice" "$dir/saved" | diff "$dir/alone" -
    grep -qx 'matrix \[100, 60\] 17997000' "$dir/alone"
    if ldd "$dir/read_slice" | grep -E 'libmpi|libopen-'; then exit 1; fi
)

# What is not for ranks needs no MPI.
for file in "$dir/prefix/lib/libshardweld.so" "$dir/prefix/bin/shardweld"; do
    strange=$(ldd "$file" | grep -vE 'linux-vdso|ld-linux|lib(jansson|m|c)\.so' || true)
    [ -z "$strange" ] || { echo "${file##*/} needs $strange"; exit 1; }
    strange=$(nm -D "$file" | grep -E '\b(P?MPI_|ompi_)' || true)
    [ -z "$strange" ] || { echo "${file##*/} names $strange"; exit 1; }
done
mpirun -n 2 "$dir/prefix/bin/shardweld" verify tests/golden/rows/in "$dir/mpi-out"

hidden=$(nm -D --defined-only "$dir/prefix/lib/libshardweld.so" | awk '$2 != "A" {print $3}' | grep -v '^sw_[a-z0-9_]*@@SHARDWELD_1$' || true)
[ -z "$hidden" ] || { echo "these can be seen: $hidden"; exit 1; }

for page in 1:shardweld 1:shardweld-consolidate 3:shardweld 3:sw_consolidate 3:sw_comm_from_mpi; do
    file=$dir/prefix/share/man/man${page%%:*}/${page#*:}.${page%%:*}
    [ -s "$file" ] || { echo "no page ${file##*/}"; exit 1; }
done
bash -c 'source "$1" && complete -p shardweld' - "$dir/prefix/share/bash-completion/completions/shardweld" >/dev/null
for file in zsh/site-functions/_shardweld fish/vendor_completions.d/shardweld.fish; do
    [ -s "$dir/prefix/share/$file" ] || { echo "no $file"; exit 1; }
done
for script in slurm/*.sh slurm/*.sbatch; do
    [ ! -e "$script" ] || cmp "$script" "$dir/prefix/share/shardweld/$script"
done

# Nothing is left but what others put there, and where it lies.
touch "$dir/prefix/share/doc/shardweld/not-ours" "$dir/prefix/lib/not-ours"
make -s uninstall PREFIX="$dir/prefix" BUILD="$dir/build"
left=$(cd "$dir/prefix" && find . | sort | xargs)
[ "$left" = '. ./lib ./lib/not-ours ./share ./share/doc ./share/doc/shardweld ./share/doc/shardweld/not-ours' ] ||
    { echo "left behind: $left"; exit 1; }
# Directories that were there stay, also empty ones and after a second install; those that were not go.
mkdir -p "$dir/old/lib/pkgconfig" "$dir/old/share/man"
for _ in 1 2; do
    make -s install PREFIX="$dir/old" BUILD="$dir/build" >/dev/null
done
make -s install PREFIX="$dir/new/er" BUILD="$dir/build" >/dev/null
make -s uninstall PREFIX="$dir/old" BUILD="$dir/build"
make -s uninstall PREFIX="$dir/new/er" BUILD="$dir/build"
left=$(cd "$dir/old" && find . | sort | xargs)
[ ! -e "$dir/new" ] || { echo "left behind: new"; exit 1; }
[ "$left" = '. ./lib ./lib/pkgconfig ./share ./share/man' ] || { echo "left behind: $left"; exit 1; }

# Who may not write there is told so, before anything is written.
if [ "$(id -u)" = 0 ]; then
    chmod 755 "$dir"
    mkdir -m 755 "$dir/closed"
    cp scripts/install "$dir/closed/script"
    as=(setpriv --reuid=65534 --clear-groups)
    said=$("${as[@]}" env PREFIX="$dir/closed/there" BINDIR="$dir/tmp" LIBDIR="$dir/closed/there/lib" SHAREDIR="$dir/tmp" \
        bash "$dir/closed/script" install 644:/etc/hostname:lib/file 2>&1) && { echo "installed without the right to"; exit 1; }
    [[ $said = "shardweld: cannot install into $dir/closed/there: $dir/closed is not writable for "*"make install PREFIX=\$HOME/.local"* ]] ||
        { echo "without rights: $said"; exit 1; }
    [ ! -e "$dir/closed/there" ]

    make -s install PREFIX="$top" BUILD="$dir/build" >/dev/null
    [ -x "$top/bin/shardweld" ]
    make -s uninstall PREFIX="$top" BUILD="$dir/build"
    [ ! -e "$top" ]

    # And root's loader knows the library afterwards, in an /etc and a /usr/local of this test's own.
    # shellcheck disable=SC2016
    own='mkdir "$1/etc" && mount -t tmpfs none "$1/etc" && cp -a /etc/. "$1/etc" && mount --bind "$1/etc" /etc && mount -t tmpfs none /usr/local'
    # shellcheck disable=SC2016
    if unshare -m bash -c "$own" - "$dir" 2>/dev/null; then
        rmdir "$dir/etc"
        unshare -m bash -euc "$own"'
            make -s install BUILD="$1/build" >"$1/said"
            grep -q "in /usr/local; ldconfig was run, and programs find libshardweld.so.1\.$" "$1/said"
            if grep LD_LIBRARY_PATH "$1/said"; then exit 1; fi
            unset LD_LIBRARY_PATH
            "$1/shared" tests/golden/rows/in "$1/out-ldconfig"
            make -s uninstall BUILD="$1/build"
            if ldconfig -p | grep shardweld; then exit 1; fi
            [ "$(find /usr/local)" = /usr/local ]' - "$dir"
        diff -r tests/golden/rows/out "$dir/out-ldconfig"
    else
        echo "install: no mount namespace here: ldconfig is not tried"
    fi
fi

places=(DESTDIR="$dir/a stage" PREFIX=/usr LIBDIR=/usr/lib/some-arch MANDIR="/usr/share/a manual")
make -s install "${places[@]}" BUILD="$dir/build" >"$dir/said"
[ ! -s "$dir/said" ] || { echo "with DESTDIR it says: $(cat "$dir/said")"; exit 1; }
for file in bin/shardweld lib/some-arch/libshardweld.so.1 "lib/some-arch/shardweld/$layer.so" lib/some-arch/pkgconfig/shardweld-mpi.pc 'share/a manual/man1/shardweld.1'; do
    [ -e "$dir/a stage/usr/$file" ] || { echo "$file is missing"; exit 1; }
done
grep -qx 'libdir=/usr/lib/some-arch' "$dir/a stage/usr/lib/some-arch/pkgconfig/shardweld.pc" ||
    { echo "shardweld.pc tells of another place"; exit 1; }
[ ! -e "$dir/a stage/usr/share/shardweld/directories" ] && [ ! -e "$dir/a stage/usr/share/shardweld/modulefiles" ]
make -s uninstall "${places[@]}" BUILD="$dir/build"
left=$(find "$dir/a stage")
[ "$left" = "$dir/a stage" ] || { echo "left behind: $left"; exit 1; }
echo "install: all as expected"
