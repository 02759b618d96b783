#!/bin/bash
# The image of packaging/Containerfile, built from a copy of this tree and used: by podman or docker where one runs, else step by step in
# roots that debootstrap makes (as root, with the packages of this machine's Debian mirror). Not in CI: it fetches two systems.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-container.XXXXXX")
trap 'rm -rf --one-file-system "$dir"' EXIT
tests/copy_tree.sh "$dir/tree"
file=packaging/Containerfile

# What the image must do: weld as one process, and with two ranks.
check() {
    diff -r tests/golden/rows/out "$1"
    diff -r tests/golden/rows/out "$2"
    echo "container: built by $3; one process and two ranks weld as they must"
}

for engine in podman docker; do
    "$engine" info >/dev/null 2>&1 || continue
    "$engine" build -q -f "$dir/tree/$file" -t shardweld-check "$dir/tree"
    run=("$engine" run --rm -v "$dir/tree/tests/golden:/in:ro" -v "$dir:/out")
    "${run[@]}" shardweld-check consolidate /in/rows/in /out/one
    "${run[@]}" --entrypoint mpirun shardweld-check --allow-run-as-root --oversubscribe -n 2 shardweld consolidate /in/rows/in /out/two
    check "$dir/one" "$dir/two" "$engine"
    exit
done

# Each line of the file as these have it; what it has more is an error, so that this does not pass over it.
mirror=$(sed -n 's/^deb .*\(http[^ ]*\).*/\1/p; s/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1 || true)
inside() {
    # shellcheck disable=SC2016
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive HOME=/root \
        unshare -m bash -c 'mount -t proc none "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" sh -c "$2"' - "$root" "$1"
}
root=
while read -r word rest; do
    case $word in
    FROM)
        root=$dir/${rest##* }
        [ "${rest%% *}" = debian:12 ] || { echo "container: $word $rest is not understood"; exit 1; }
        debootstrap --variant=minbase bookworm "$root" "${mirror:-http://deb.debian.org/debian}" >"$dir/log" 2>&1 || { tail "$dir/log"; exit 1; }
        cp /etc/resolv.conf "$root/etc/"
        [ ! -d /etc/apt/apt.conf.d ] || cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/"
        ;;
    RUN) inside "$rest" >"$dir/log" 2>&1 || { tail "$dir/log"; echo "container: RUN $rest"; exit 1; } ;;
    COPY)
        case $rest in
        '. /src') cp -a "$dir/tree" "$root/src" ;;
        '--from=build /stage/ /') cp -a "$dir/build/stage/." "$root" ;;
        *) echo "container: COPY $rest is not understood"; exit 1 ;;
        esac
        ;;
    ENTRYPOINT) [ "$rest" = '["shardweld"]' ] ;;
    '#' | '') ;;
    *) echo "container: $word is not understood"; exit 1 ;;
    esac
done <"$dir/tree/$file"
cp -r tests/golden "$root/in"
inside 'shardweld consolidate /in/rows/in /out/one && mpirun --allow-run-as-root --oversubscribe -n 2 shardweld consolidate /in/rows/in /out/two'
check "$root/out/one" "$root/out/two" "its steps in plain roots"
