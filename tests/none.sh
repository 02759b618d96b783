#!/bin/bash
# Without an MPI: a PATH in which there is none, `make MPI=none` there, and what the program does as one process. `make` alone says
# what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MPICC MPIRUN
dir=$(mktemp -d "${TMPDIR:-/tmp}/shardweld-none.XXXXXX")
trap 'rm -rf "$dir"' EXIT

mkdir "$dir/bin"
IFS=: read -ra places <<<"$PATH"
for place in "${places[@]}"; do
    for file in "$place"/*; do
        case ${file##*/} in
        mpi* | omp[i_]* | opal* | orte* | prte* | hydra* | pmi*) ;;
        *) [ -e "$dir/bin/${file##*/}" ] || ln -s "$file" "$dir/bin/" ;;
        esac
    done
done
export PATH=$dir/bin
! command -v mpicc mpirun mpiexec || { echo "none: MPI is in PATH still"; exit 1; }

said=$(make BUILD="$dir/build" 2>&1) && { echo "none: make passes without an MPI"; exit 1; }
case $said in
*"there is no 'mpicc'"*"make MPI=none"*) ;;
*) echo "none: make says $said"; exit 1 ;;
esac
make MPI=none BUILD=build-none check-pages check-e2e E2E="$(echo tests/e2e/test_{alone,golden,inspect,read_slice}.py)"
build-none/shardweld --version | grep -q ', layer none$'
