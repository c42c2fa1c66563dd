#!/bin/sh
# Every fault at every moment on every victim (tests/trainer/test_matrix.c), and requests to leave at every moment and by every launcher
# (test_stop.c), of which scripts/test.sh runs samples. Some minutes.
#
#   scripts/faults.sh [BUILD]        BUILD: a build folder with tests (default: build, made by scripts/test.sh)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$root/build}/tests/test_trainer_matrix
[ -x "$program" ] || { echo "faults.sh: $program is not there: build the tests first (sh scripts/test.sh, or cmake --preset release && cmake --build build)" >&2; exit 1; }
if [ "$(id -u)" = 0 ]; then # mpirun asks for both
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
CADRE_MATRIX=all "$program"
CADRE_MATRIX=all exec "${program%matrix}stop"
