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

# What is offered for the last of these words: sorted, with '|' between. The function is that of the first word's completion.
complete_words() (
    # shellcheck source=/dev/null
    source "$build/completion.bash"
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    complete=$(complete -p "$1" | sed 's/.*-F \([a-z_]*\).*/\1/')
    "$complete"
    [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | paste -sd'|'
)

# offers_line WANT WORD...
offers_line() {
    local want=$1 got
    shift
    got=$(complete_words "$@")
    [ "$got" = "$want" ] || fail "$*: '$got' is offered, not '$want'"
}

# The same of the program by itself.
offers() {
    local want=$1
    shift
    offers_line "$want" shardweld "$@"
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
offers "$(printf '%s\n' help --help --version "$commands" | LC_ALL=C sort | paste -sd'|')" ''
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
offers "verify" help ver
for launcher in mpirun mpiexec srun; do
    offers_line "consolidate" "$launcher" -n 2 shardweld cons
    offers_line "auto|band|owner" "$launcher" -n 2 --oversubscribe /opt/bin/shardweld consolidate --assign ''
    offers_line "in dir|other" "$launcher" -n 2 shardweld verify ''
    offers_line "" "$launcher" -n 2 other verify ''
done

# fish tells what it would offer; zsh is typed to.
if command -v fish >/dev/null; then
    fish_offers() {
        local want=$1 got
        got=$(HOME=$dir fish -N -c "source '$build/completion.fish'; complete -C '$2'" | cut -f1 | LC_ALL=C sort | paste -sd'|')
        [ "$got" = "$want" ] || fail "fish: $2: '$got' is offered, not '$want'"
    }
    for command in $commands; do
        fish_offers "$(options_of "$command" | LC_ALL=C sort | paste -sd'|')" "shardweld $command --"
    done
    for before in "" "mpirun -n 2 --oversubscribe " "srun -n 2 /opt/bin/"; do
        fish_offers "consolidate" "${before}shardweld cons"
        fish_offers "auto|band|owner" "${before}shardweld consolidate --assign "
        fish_offers "other/" "${before}shardweld verify oth"
        fish_offers "verify" "${before}shardweld help ver"
    done
else
    echo "pages: no fish: its completion is not tried"
fi
if command -v zsh >/dev/null; then
    mkdir "$dir/zsh"
    cp "$build/completion.zsh" "$dir/zsh/_shardweld"
    python3 - "$dir/zsh" <<'PYTHON' || fail "zsh"
import os, pty, select, sys, time

pid, fd = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", HOME=sys.argv[1], LC_ALL="C")
    os.execvp("zsh", ["zsh", "-f", "-i"])


def ask(line, until, seconds=20):
    """Type a line; what the shell says until that is in it, or the time is over."""
    os.write(fd, line.encode())
    said, end = "", time.monotonic() + seconds
    while until not in said and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            said += os.read(fd, 65536).decode(errors="replace")
    return said


ask(f"PS1=; unsetopt zle_bracketed_paste prompt_cr prompt_sp; fpath=({sys.argv[1]} $fpath); autoload -Uz compinit; compinit -u -D; echo rea''dy\n", "ready")
bad = []
for before in ("", "mpirun -n 2 --oversubscribe ", "srun -n 2 /opt/bin/"):
    for typed, want in (("shardweld cons", "consolidate "), ("shardweld consolidate --max-sh", "--max-shard-size"), ("shardweld verify --assign ow", "owner"), ("shardweld verify in oth", "other/"), ("shardweld help resh", "reshard")):
        rest = want[len(typed.split()[-1]) :]  # what is typed already need not be written again
        said = ask(f"{before}{typed}\t", rest, 10)
        if rest not in said:
            bad.append(f"{before}{typed}: {said!r}")
        ask("\x15", "", 0.3)
os.write(fd, b"\x15exit\n")
os.close(fd)
os.waitpid(pid, 0)
print("\n".join(bad))
sys.exit(bool(bad))
PYTHON
else
    echo "pages: no zsh: its completion is not tried"
fi

[ $failed = 0 ] && echo "pages: $(echo "$commands" | wc -w) commands, $(echo "$functions" | wc -w) functions"
exit $failed
