#!/bin/bash
# Weld what a training job will have saved, in a job of its own that starts when the training has ended:
#
#     slurm/submit-after.sh JOBID INPUT_DIR OUTPUT_DIR [OPTIONS OF shardweld consolidate]
#     slurm/submit-after.sh 4711 ckpt/step_5000/sharded ckpt/step_5000 --expect-shards 64
#
# It prints the new job's number. JOBID may be `now`. From inside a batch script it is one line, before the training starts:
#
#     /path/to/slurm/submit-after.sh "$SLURM_JOB_ID" ckpt/LATEST ckpt/welded --expect-shards 64
#
# The job starts after JOBID in any case (afterany): afterok never fires when the training ran into its time limit, which
# is how many of them end. So the job looks for itself: first `shardweld inspect` has to find the checkpoint
# complete (status 0), with --expect-shards N or --like INDEX of OPTIONS; give one of them, because without them a lost end of a tensor
# is noticed only where config.json tells. If it is not complete the job fails with status 3 and nothing is written. INPUT_DIR is looked at when
# the job starts: it need not be there yet, and may be a link that names the latest checkpoint.
#
# The job begins with a clean environment: of the one here it gets PATH, LD_LIBRARY_PATH, HOME, USER, the language, modules'
# MODULEPATH, SLURM_CONF, the SBATCH_ variables that name account, partition, QOS and reservation, and SHARDWELD_*.
#
# Variables, all optional:
#     SHARDWELD, SHARDWELD_SETUP, SHARDWELD_LAUNCH    as in weld.sbatch
#     SHARDWELD_NODES, SHARDWELD_RANKS             nodes [1], and processes on each of them [4]
#     SHARDWELD_PARTITION                          where it runs [sbatch's own choice]
#     SHARDWELD_SBATCH                             further options of sbatch, e.g. "--time=02:00:00 --account=me"
set -u

usage() {
    echo "submit-after.sh: $1" >&2
    echo "usage: submit-after.sh JOBID INPUT_DIR OUTPUT_DIR [OPTIONS OF shardweld consolidate]" >&2
    exit 2
}

# Words of NAME=VALUE that the new job may have.
clean_environment() {
    local name
    environment=()
    for name in $(compgen -e); do
        case $name in
        PATH | LD_LIBRARY_PATH | HOME | USER | LOGNAME | SHELL | LANG | LC_ALL | TZ | MODULEPATH | SLURM_CONF) ;;
        SBATCH_ACCOUNT | SBATCH_PARTITION | SBATCH_QOS | SBATCH_RESERVATION) ;;
        SHARDWELD | SHARDWELD_*) ;;
        *) continue ;;
        esac
        environment+=("$name=${!name}")
    done
}

[ $# -ge 3 ] || usage "too few arguments"
[[ $1 =~ ^([0-9]+(_[0-9]+)?|now)$ ]] || usage "'$1' is not the number of a job"
if [ -z "$2" ] || [ -z "$3" ]; then
    usage "a directory without a name"
fi
if [[ " ${*:4} " != *" --expect-shards"[\ =]* && " ${*:4} " != *" --like"[\ =]* ]]; then
    echo "submit-after.sh: warning: without --expect-shards or --like a lost end of a tensor is noticed only where config.json tells" >&2
fi

options=(--parsable --export=ALL)
[ "$1" = now ] || options+=(--dependency="afterany:$1")
[ -z "${SHARDWELD_NODES:-}" ] || options+=(--nodes="$SHARDWELD_NODES")
[ -z "${SHARDWELD_RANKS:-}" ] || options+=(--ntasks-per-node="$SHARDWELD_RANKS")
[ -z "${SHARDWELD_PARTITION:-}" ] || options+=(--partition="$SHARDWELD_PARTITION")
read -ra more <<<"${SHARDWELD_SBATCH:-}"
script=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/weld.sbatch || exit 1
clean_environment
exec env -i "${environment[@]}" SHARDWELD_CHECK=yes \
    sbatch "${options[@]}" ${more[@]+"${more[@]}"} -- "$script" "${@:2}"
