#!/bin/bash
# Copy this tree to a new directory, as it is now: what git tracks and what it would track, changes included. The copy has no history;
# the commit stands in it as in an archive, unless files were changed since.
#   tests/copy_tree.sh DIR
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
if [ -e .git ]; then
    git ls-files -z --cached --others --exclude-standard
else
    find . -path ./build -prune -o -path './build-*' -prune -o -type f -printf '%P\0'
fi | while IFS= read -r -d '' file; do
    # Deleted, but not for git yet.
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done | tar --null --files-from=- -c | tar -x -C "$1"
commit=$(git rev-parse --verify -q HEAD 2>/dev/null || true)
case $(scripts/commit) in
'' | *-dirty) ;;
*) [ -z "$commit" ] || echo "$commit" >"$1/packaging/commit" ;;
esac
