#!/bin/sh
# Run a command on a rank of an MPI job, with @RANK@ in its arguments replaced by the rank's number: so that
# each rank can be given a directory of its own.
rank=${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${PMI_RANK:-0}}}
for arg; do
    shift
    case $arg in
    *@RANK@*) arg=${arg%%@RANK@*}$rank${arg#*@RANK@} ;;
    esac
    set -- "$@" "$arg"
done
exec "$@"
