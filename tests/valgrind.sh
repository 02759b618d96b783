#!/bin/bash
# A small weld and a small read, each in one process, under valgrind: valgrind.sh PROGRAM READER_CHECK.
# Leaks of MPI itself are in valgrind.supp.
set -euo pipefail
program=$1 reader=$2
here=$(dirname "$0")
export HWLOC_COMPONENTS=-x86 # it cannot work under valgrind, and says so
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

check() {
    valgrind -q --error-exitcode=42 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
        --num-callers=50 --suppressions="$here/valgrind.supp" "$@"
}

for case in grid dtypes; do
    check "$program" consolidate --buffer-size 4KiB "$here/golden/$case/in" "$dir/$case"
    diff -r "$here/golden/$case/out" "$dir/$case"
    check "$program" verify "$here/golden/$case/in" "$dir/$case"
    echo '[]' | "$reader" "$here/golden/$case/out" >"$dir/want"
    echo '[]' | check "$reader" -t 3 -b 4096 "$here/golden/$case/in" >"$dir/got"
    cmp "$dir/want" "$dir/got"
done
