#!/bin/bash
# Two builds of one commit are equal, byte for byte: program, libraries, manual and completion. They differ in all that a build should not see:
# the directory of the sources, that of the build, time, time zone, language, umask, and how many compilers run at once.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-twice.XXXXXX")
trap 'rm -rf "$dir"' EXIT
unset MAKEFLAGS MAKELEVEL MFLAGS
commit=$(scripts/commit)
first=$dir/a
second=$dir/another/directory/with/a/longer.name
tests/copy_tree.sh "$first"
tests/copy_tree.sh "$second"

# What is said of the history: a clone, a clone with changes, an archive, and a copy that knows nothing.
check_commit() (
    said() {
        local got
        got=$("$1/scripts/commit")
        [ "$got" = "$2" ] || { echo "reproducible: scripts/commit says '$got' in $3, not '$2'"; exit 1; }
    }
    # shellcheck disable=SC2016
    echo '$Format:%H$' >"$dir/placeholder"
    mkdir -p "$dir/clone/scripts" "$dir/clone/packaging" "$dir/archive" "$dir/clone/inner"
    cp scripts/commit "$dir/clone/scripts"
    cp "$dir/placeholder" "$dir/clone/packaging/commit"
    cp .gitattributes "$dir/clone"
    cd "$dir/clone"
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
    unset GIT_DIR GIT_WORK_TREE
    git init -q
    git add .
    git -c user.name=x -c user.email=x@localhost commit -qm x
    head=$(git rev-parse HEAD)
    said . "${head:0:12}" "a clone"
    git archive HEAD | tar -x -C "$dir/archive"
    said "$dir/archive" "${head:0:12}" "an archive"
    cp -R scripts packaging inner
    said inner "" "a copy inside of another history"
    echo "# changed" >>scripts/commit
    said . "${head:0:12}-dirty" "a clone with changes"
)
! command -v git >/dev/null || check_commit

(umask 022 && cd "$first" && TZ=UTC LC_ALL=C make -s -j2 all COMMIT="$commit" BUILD=build)
(umask 027 && cd "$second" && TZ=Asia/Tokyo LC_ALL=C.UTF-8 make -s -j3 all COMMIT="$commit" BUILD="$dir/elsewhere/made.here")

failed=0
count=0
list=$(cd "$first/build" && find . \( -path ./obj -o -name flags -o -name '*.d' \) -prune -o -type f -print | sort)
for file in $list; do
    count=$((count + 1))
    cmp "$first/build/$file" "$dir/elsewhere/made.here/$file" || failed=1
done
for file in shardweld libshardweld.a libshardweld.so man/man1/shardweld.1 man/man3/shardweld.3 completion.bash completion.zsh completion.fish shardweld.pc; do
    [ -e "$first/build/$file" ] || { echo "reproducible: $file was not built"; failed=1; }
done
# No path of the machine either.
if grep -lF "$dir" "$first/build/shardweld" "$first"/build/libshardweld*; then
    echo "reproducible: the path of the sources is in these"
    failed=1
fi
[ $failed = 0 ] && echo "reproducible: $count files are equal"
exit $failed
