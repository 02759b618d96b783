#!/bin/bash
# The manual and the completion are whole: every command and every option that --help names, every function that the library
# exports. man shows the pages without a complaint, and completion offers what fits.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${SHARDWELD_BUILD:-build}
program=${SHARDWELD:-$build/shardweld}
failed=0

fail() {
    echo "pages: $*"
    failed=1
}

options_of() {
    "$program" "$1" --help | grep -oE '^ {2,6}(-[a-zA-Z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

# ---- section 1 --------------------------------------------------------------------------------------

commands=$("$build/describe" commands)
[ "$("$program" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')" = "$commands" ] || fail "--help names other commands"
for command in $commands; do
    page=$build/man/man1/shardweld-$command.1
    [ -f "$page" ] || { fail "no page for $command: write packaging/man/shardweld-$command.1"; continue; }
    for option in $(options_of "$command"); do
        grep -qF -- "\\fB${option//-/\\-}\\fR" "$page" || fail "$page lacks $option"
    done
    grep -qF "shardweld\\-$command" "$build/man/man1/shardweld.1" || fail "shardweld.1 lacks $command"
done

# ---- section 3 --------------------------------------------------------------------------------------

functions=$(sed -n 's/^\(sw_[a-z0-9_]*\);$/\1/p' "$build/exports.map")
[ -n "$functions" ] || fail "no function is exported"
for function in $functions; do
    page=$(sed -n 's/^\.so //p' "$build/man/man3/$function.3")
    sed -n '/^\.SH NAME/,/^\.SH SYN/p' "$build/man/$page" | grep -qE "^$function(,| )" || fail "$function is not in '$page'"
done

# ---- form -------------------------------------------------------------------------------------------

if command -v groff >/dev/null; then
    # The links too: a page that leads nowhere is a complaint.
    said=$(cd "$build/man" && groff -man -Tutf8 -ww -z man1/*.1 man3/shardweld*.3 2>&1)
    [ -z "$said" ] || fail "groff: $said"
fi
if command -v mandoc >/dev/null; then
    # No date: a page that carried that of its build would differ from one build to the next.
    said=$(mandoc -Tlint -W warning "$build"/man/man1/*.1 "$build"/man/man3/shardweld*.3 | grep -v 'missing date' || true)
    [ -z "$said" ] || fail "mandoc: $said"
fi

# ---- completion -------------------------------------------------------------------------------------

# What is offered for the last of these words: sorted, with '|' between.
complete_words() (
    # shellcheck source=/dev/null
    source "$build/completion"
    COMP_WORDS=(shardweld "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _shardweld
    [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | paste -sd'|'
)

# offers WANT WORD...
offers() {
    local want=$1 got
    shift
    got=$(complete_words "$@")
    [ "$got" = "$want" ] || fail "shardweld $*: '$got' is offered, not '$want'"
}

build=$(cd "$build" && pwd)
program=$(cd "$(dirname "$program")" && pwd)/${program##*/}
dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-pages.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir "in dir" other
touch index.json

for command in $commands; do
    offers "$(options_of "$command" | LC_ALL=C sort | paste -sd'|')" "$command" --
done
offers "$(printf '%s\n' --help --version "$commands" | LC_ALL=C sort | paste -sd'|')" ''
offers "consolidate" cons
offers "auto|band|owner" consolidate --assign ''
offers "band" consolidate --assign = b
offers "auto|band|owner" verify --assign =
offers "always" consolidate --progress al
offers "bf16|fp16|fp32" consolidate --dequantize ''
offers "never" verify in out --progress n
offers "index.json" consolidate --like ind
offers "in dir|other" consolidate --assets ''
offers "in dir|other" consolidate ''
offers "other" consolidate -n oth
offers "in dir|index.json|other" inspect ''
offers "" consolidate --buffer-size ''
offers "--max-shard-size" consolidate --max
offers "" nonsense ''

[ $failed = 0 ] && echo "pages: $(echo "$commands" | wc -w) commands, $(echo "$functions" | wc -w) functions"
exit $failed
