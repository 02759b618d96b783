#!/bin/bash
# The unit tests, the pages and one file of end-to-end tests for somebody who is not root, in a clean environment, from a copy of this tree whose
# path has a blank in it. As root: as user nobody, and where a mount namespace can be had, without ps and with an empty /sys, as in a small
# container.
set -euo pipefail
cd "$(dirname "$0")/.."
path=/usr/bin:/bin
e2e=${USER_E2E:-tests/e2e/test_cli.py}
jobs=$(nproc 2>/dev/null || echo 2)

dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-user.XXXXXX")
trap 'rm -rf "$dir"' EXIT
tree="$dir/a clone"
tests/copy_tree.sh "$tree"
mkdir -m 1777 "$dir/tmp"

as=()
if [ "$(id -u)" = 0 ]; then
    # What the user finds is what this brings into the system's own places.
    env -i PATH="$path:/usr/sbin:/sbin" HOME=/root scripts/setup
    chmod 755 "$dir"
    chown -R nobody: "$tree"
    as=(setpriv --reuid="$(id -u nobody)" --regid="$(id -g nobody)" --clear-groups)
    # shellcheck disable=SC2016
    bare='mount -t tmpfs none /sys && for f in /usr/bin/ps /bin/ps; do [ ! -e $f ] || mount --bind /dev/null $f; done'
    if unshare -m sh -c "$bare" 2>/dev/null; then
        as=(unshare -m sh -c "$bare"' && exec "$@"' sh "${as[@]}")
    else
        echo "user: no mount namespace here: with ps and /sys"
    fi
fi
cd "$tree"
# shellcheck disable=SC2016
"${as[@]}" env -i PATH="$path" HOME="$dir/tmp" TMPDIR="$dir/tmp" ${CI:+CI="$CI"} \
    sh -c 'umask 022 && make -s -j"$1" all && make check-all E2E="$2"' sh "$jobs" "$e2e"
echo "user: all passed"
