#!/bin/bash
# Weld when the training has ended, in one of two ways; the script sees by itself which one.
#
# 1. For users: at once, on the nodes of the same job, while they are still yours (and their local disks too).
#
#        export SHARDWELD_IN=ckpt/sharded SHARDWELD_OUT=ckpt          # in the batch script, or before salloc
#        srun --epilog=/path/to/slurm/epilog.sh python train.py
#    or, behind whatever starts the training:
#        trap /path/to/slurm/epilog.sh EXIT
#
#    Either way the job's exit status stays the training's; what became of the weld is one line in the job's output. The
#    checkpoint is looked at first (`shardweld inspect`), so that a training that failed before it had saved
#    makes a message and no harm. When the time limit ends the job there is no time left for this: SLURM kills all of
#    it. Ask for a signal N seconds before the limit, hand it to the training as SIGTERM, and weld in what is left:
#
#        #SBATCH --signal=B:USR1@600
#        trap /path/to/slurm/epilog.sh EXIT
#        trap 'scancel --signal=TERM $SLURM_JOB_ID; wait $train; exit $?' USR1
#        srun python train.py & train=$!
#        wait $train
#
#    srun needs an allocation that outlives it: sbatch or salloc, not srun alone. Variables: SHARDWELD_IN, SHARDWELD_OUT,
#    SHARDWELD_OPTIONS (options of shardweld consolidate, separated by blanks, e.g. "--expect-shards 64"),
#    SHARDWELD_NODES [all of the job], SHARDWELD_RANKS on each of them [as many as CPUs, at most 4], SHARDWELD_LAUNCH [pmix], and
#    SHARDWELD, the program, if it is not in PATH.
#
# 2. For administrators: as Epilog (one on each node) or EpilogSlurmctld of slurm.conf. There SLURM's commands must not be
#    called, and a node is drained when its Epilog fails; so it only leaves a request and ends with status 0, whatever
#    happened. Users ask with a comment; words with blanks stand in quotes; paths are seen from the job's directory:
#
#        #SBATCH --comment="shardweld ckpt/sharded ckpt --expect-shards 64"
#        scontrol update JobId=$SLURM_JOB_ID Comment="shardweld ..."   # when it is known later
#
#    Requests lie in /var/spool/shardweld, which must belong to root (for EpilogSlurmctld: to SlurmUser) with mode 0700; a site with
#    another directory names it in SHARDWELD_SPOOL in a script that calls this one. weld-requests.sh submits them.
set -u

# ---- 2: leave a request -------------------------------------------------------------------------------

# The first node of a list such as a[03-05,7]b,c: one node asks for all.
first_node() {
    local list=$1 head inside
    while [[ ${list%%,*} == *"["* ]]; do
        head=${list%%[*}
        inside=${list#*[}
        list=$head${inside%%[],-]*}${inside#*]}
    done
    echo "${list%%,*}"
}

# closed PATH: root's, or of who we are (SlurmUser under slurmctld), and nobody else may write there or read it. What is looked at is
# where we stand then, so that nobody can put another directory in its place.
closed() {
    local uid mode
    read -r uid mode < <(stat -c '%u %a' -- "$1" 2>/dev/null) || return 1
    [[ $uid == 0 || $uid == "$EUID" ]] && [ $((8#$mode & 8#077)) = 0 ]
}

# uid, directory and comment, each ended by a NUL: nobody's blanks, quotes or newlines mean anything here.
leave_request() {
    local spool=${SHARDWELD_SPOOL:-/var/spool/shardweld} new
    [[ ${SLURM_JOB_COMMENT:-} == "shardweld "* ]] || return 0
    [[ ${SLURM_JOB_ID:-} =~ ^[0-9]+$ && ${SLURM_JOB_UID:-} =~ ^[0-9]+$ ]] || return 0
    if [ "$SLURM_SCRIPT_CONTEXT" = epilog_slurmd ] && [ -n "${SLURM_NODELIST:-}" ] &&
        [ "$(first_node "$SLURM_NODELIST")" != "${SLURMD_NODENAME:-}" ]; then
        return 0
    fi
    if [ -L "$spool" ] || ! cd -P -- "$spool" 2>/dev/null || ! closed .; then
        echo "epilog.sh: no request is left: $spool must be a directory of this user's or root's with mode 0700" >&2
        return 0
    fi
    new=.$SLURM_JOB_ID.$$
    umask 077
    set -o noclobber
    printf '%s\0' "$SLURM_JOB_UID" "${SLURM_JOB_WORK_DIR:-/}" "$SLURM_JOB_COMMENT" >"$new" &&
        mv -fT -- "$new" "$SLURM_JOB_ID"
}

# ---- 1: weld here and now -----------------------------------------------------------------------------

# The training's own srun options stand in variables, too, and would count for ours.
forget_training() {
    local name
    for name in $(compgen -e); do
        case $name in
        SLURM_CONF | SLURM_JOB_ID | SLURM_JOB_NUM_NODES | SLURM_CLUSTER_NAME | SLURM_WORKING_CLUSTER) ;;
        SLURM_* | SLURMD_*) unset "$name" ;;
        esac
    done
}

weld_now() {
    local options cpus=${SLURM_JOB_CPUS_PER_NODE:-4} here
    if [ -z "${SHARDWELD_IN:-}" ] || [ -z "${SHARDWELD_OUT:-}" ]; then
        echo "weld: not done: SHARDWELD_IN and SHARDWELD_OUT say what and where, and are not set"
        return 2
    fi
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || return 1
    read -ra options <<<"${SHARDWELD_OPTIONS:-}"
    cpus=${cpus%%[!0-9]*}
    forget_training
    SHARDWELD_RANKS=${SHARDWELD_RANKS:-$((cpus < 4 ? cpus : 4))} SHARDWELD_CHECK=yes SHARDWELD_OVERLAP=yes \
        "$here/weld.sbatch" "$SHARDWELD_IN" "$SHARDWELD_OUT" ${options[@]+"${options[@]}"}
}

case ${SLURM_SCRIPT_CONTEXT:-} in
epilog_slurmd | epilog_slurmctld)
    leave_request
    exit 0
    ;;
epilog_task | prolog_*)
    echo "epilog.sh: this is for --epilog, not for ${SLURM_SCRIPT_CONTEXT}" >&2
    exit 2
    ;;
esac
weld_now
