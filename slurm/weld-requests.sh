#!/bin/bash
# Submit the welds that epilog.sh was asked for, each as the user whose job it was. For root, from cron or a timer, on the
# machine where the requests lie (the controller's, for EpilogSlurmctld; else each node, or a directory that all of them share):
#
#     * * * * * root SHARDWELD_PARTITION=cpu /path/to/slurm/weld-requests.sh
#
# A request is the number of a job, with its user's id, its directory and its comment ("shardweld INPUT_DIR OUTPUT_DIR
# [OPTIONS]"). All of it but the id may be what the user likes: it becomes words for sbatch, behind the name of weld.sbatch, in a process
# that is the user already; no shell sees it. The id is believed because nobody else could have written it: the directory and
# the files must belong to root or SlurmUser and be closed to the others, and links and odd names are not
# followed. Requests of root are refused. A request waits while its job still runs or runs again (requeue), and for a day
# when sbatch refuses it; then it is dropped with a message.
#
# Variables: SHARDWELD_SPOOL [/var/spool/shardweld], and those of weld.sbatch and submit-after.sh (SHARDWELD,
# SHARDWELD_SETUP, SHARDWELD_NODES, SHARDWELD_RANKS, SHARDWELD_PARTITION, SHARDWELD_SBATCH), which the site sets here.
# Prints a line for each job that it submitted. Status 0; 1 if the directory is not as it must be.
set -u
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
spool=${SHARDWELD_SPOOL:-/var/spool/shardweld}

say() {
    echo "weld-requests: $*"
}

# Root, or the user as whom the controller runs EpilogSlurmctld.
find_owners() {
    local slurm
    slurm=$(scontrol show config 2>/dev/null | sed -n 's/^SlurmUser *=.*(\([0-9]*\))$/\1/p')
    owners=" 0 ${slurm:-0} "
}

# closed PATH: one of the owners', and nobody else may write there or read it.
closed() {
    local uid mode
    read -r uid mode < <(stat -c '%u %a' -- "$1" 2>/dev/null) || return 1
    [[ $owners == *" $uid "* ]] && [ $((8#$mode & 8#077)) = 0 ]
}

# Has the job ended for good? One that SLURM has forgotten has; while the controller does not answer nothing is known.
has_ended() {
    local text
    if ! text=$(timeout 60 scontrol -o show job "$1" 2>&1); then
        [[ $text == *"Invalid job id"* ]]
        return
    fi
    ! [[ $text =~ JobState=(PENDING|RUNNING|SUSPENDED|COMPLETING|CONFIGURING|REQUEUED|REQUEUE_HOLD|REQUEUE_FED|RESIZING|SIGNALING|STAGE_OUT|STOPPED|SPECIAL_EXIT) ]]
}

# Words as a shell would part them, quotes included, but without anything that a shell would do with them.
split() {
    words=()
    printf '%s' "$1" | xargs printf '%s\0' >"$scratch" 2>/dev/null || return 1
    mapfile -d '' -t words <"$scratch"
}

# as_user UID DIRECTORY COMMAND...: with that user's rights, in that directory, with nothing of our environment but what the site set.
as_user() {
    local uid=$1 directory=$2 name gid home shell environment=() variable
    shift 2
    IFS=: read -r name _ _ gid _ home shell < <(getent passwd "$uid") || return 1
    for variable in SLURM_CONF SHARDWELD SHARDWELD_SETUP SHARDWELD_NODES SHARDWELD_RANKS SHARDWELD_LAUNCH SHARDWELD_MPI SHARDWELD_PARTITION SHARDWELD_SBATCH; do
        [ -z "${!variable:-}" ] || environment+=("$variable=${!variable}")
    done
    (
        cd / &&
            timeout 60 setpriv --reuid="$uid" --regid="$gid" --init-groups -- \
                env -i -C "$directory" PATH="$PATH" HOME="$home" USER="$name" LOGNAME="$name" SHELL="$shell" \
                ${environment[@]+"${environment[@]}"} "$@" </dev/null
    )
}

# submit JOB: 0 when the request is dealt with, one way or the other.
submit() {
    local job=$1 file=$spool/$1 fields uid new
    if [ ! -f "$file" ] || [ -L "$file" ] || ! closed "$file"; then
        say "job $job: refused: $file is not a file that only root or SlurmUser may write"
        return 0
    fi
    mapfile -d '' -t fields < <(head -c 65536 -- "$file")
    uid=${fields[0]:-}
    if [ ${#fields[@]} != 3 ] || ! [[ $uid =~ ^[1-9][0-9]{0,9}$ ]] || ! getent passwd "$uid" >/dev/null; then
        say "job $job: refused: not a request, or not of a user that may ask"
        return 0
    fi
    if ! split "${fields[2]}" || [ "${words[0]:-}" != shardweld ] || [ ${#words[@]} -lt 3 ]; then
        say "job $job: refused: the comment is not 'shardweld INPUT_DIR OUTPUT_DIR [OPTIONS]'"
        return 0
    fi
    has_ended "$job" || return 1
    if new=$(as_user "$uid" "${fields[1]}" "$here/submit-after.sh" now "${words[@]:1}" 2>"$scratch"); then
        say "job $job: submitted as job $new for user $uid"
        return 0
    fi
    say "job $job: not submitted yet: $(tr -d '\000-\011\013-\037\177' <"$scratch" | tail -n 1 | cut -c 1-300)"
    return 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
find_owners
if [ ! -d "$spool" ] || [ -L "$spool" ] || ! closed "$spool"; then
    echo "weld-requests: $spool must be a directory of root's or SlurmUser's with mode 0700" >&2
    exit 1
fi
# One at a time; the next minute will do.
exec 9<"$spool" && flock -n 9 || exit 0
scratch=$(mktemp) || exit 1
trap 'rm -f "$scratch"' EXIT

for file in "$spool"/*; do
    job=${file##*/}
    [[ $job =~ ^[0-9]+$ ]] || continue
    if submit "$job"; then
        rm -f -- "$file"
    elif [ -n "$(find "$file" -mmin +1440 2>/dev/null)" ]; then
        say "job $job: given up after a day"
        rm -f -- "$file"
    fi
done
find "$spool" -maxdepth 1 -type f -name '.[0-9]*' -mmin +1440 -delete 2>/dev/null
exit 0
