#!/bin/bash
# Run a command once for each file of tests, several at a time: parallel.sh JOBS FILE... -- COMMAND...
# Those that take long for their size first, then the largest file. Each run has a directory of its own for temporary files (launchers do not like to share theirs). When it is done
# its output is printed, of a run that passed only the counts at its end. Status 1 if any run failed.
set -u
jobs=$1
shift
files=()
while [ "$1" != -- ]; do
    files+=("$1")
    shift
done
shift

one() {
    local file=$1 tmp status begin=$SECONDS
    shift
    tmp=$(mktemp -d) && chmod 1777 "$tmp" || return 1 # some tests are another user for a while
    TMPDIR=$tmp "$@" "$file" >"$tmp/output" 2>&1
    status=$?
    [ $status != 0 ] || sed -i -n '/^\[  PASSED\|^[0-9]* passed/p' "$tmp/output"
    printf '== %s (%s s)\n%s\n' "$file" $((SECONDS - begin)) "$(cat "$tmp/output")"
    rm -rf "$tmp"
    [ $status = 0 ]
}
export -f one

# What begins late is waited for alone.
long='/test_(prove|watchdog|publish|writer|rules|random|golden|stripes|scale|large|watch|sites|async_save)(\.py)?$'
# shellcheck disable=SC2012
sorted=$(ls -S -- "${files[@]}")
{ grep -E "$long" <<<"$sorted"; grep -vE "$long" <<<"$sorted"; } | xargs -P "$jobs" -I{} bash -c 'one "$@"' one {} "$@" || exit 1
