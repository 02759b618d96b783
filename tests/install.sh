#!/bin/bash
# Install into a directory, and build against it as users do: with nothing but pkg-config, in C and C++, shared and static. Then
# everything is gone after make uninstall.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-install.XXXXXX")
trap 'rm -rf "$dir"' EXIT
export PKG_CONFIG_PATH=$dir/prefix/lib/pkgconfig
make -s install PREFIX="$dir/prefix" BUILD="$dir/build"

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
cp "$dir/user.c" "$dir/user.cc"
# shellcheck disable=SC2046
{
    ${CC:-cc} -Wall -Werror -o "$dir/shared" "$dir/user.c" $(pkg-config --cflags --libs shardweld)
    c++ -Wall -Werror -o "$dir/shared++" "$dir/user.cc" $(pkg-config --cflags --libs shardweld)
    ${CC:-cc} -Wall -Werror -o "$dir/static" "$dir/user.c" $(pkg-config --cflags shardweld) \
        "$dir/prefix/lib/libshardweld.a" $(pkg-config --libs --static shardweld | sed 's/-lshardweld//')
}
for program in shared shared++ static; do
    LD_LIBRARY_PATH="$dir/prefix/lib" "$dir/$program" tests/golden/rows/in "$dir/out-$program"
    diff -r tests/golden/rows/out "$dir/out-$program"
done
"$dir/prefix/bin/shardweld" --version

hidden=$(nm -D --defined-only "$dir/prefix/lib/libshardweld.so" | awk '$2 != "A" {print $3}' | grep -v '^sw_[a-z0-9_]*@@SHARDWELD_0$' || true)
[ -z "$hidden" ] || { echo "these can be seen: $hidden"; exit 1; }

make -s uninstall PREFIX="$dir/prefix" BUILD="$dir/build"
left=$(find "$dir/prefix" ! -type d)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "install: all as expected"
