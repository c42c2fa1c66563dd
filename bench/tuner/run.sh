#!/bin/sh
# What the tuner costs: builds and runs bench_tuner and, where there is libtorch, bench_tuner_torch.
#
#     bench/tuner/run.sh [BUILD_DIRECTORY [OPTIONS...]]        options as in bench_tuner.c
set -eu
me=bench/tuner/run.sh
. "$(dirname "$0")/../../scripts/lib.sh"
root=$(cd "$(dirname "$0")/../.." && pwd) # lib.sh takes its callers to lie beside it
choose_blas >&2
build=${1:-$root/build}
[ $# -eq 0 ] || shift
[ -e "$build/CMakeCache.txt" ] || cmake -S "$root" -B "$build" -G Ninja >&2
cmake --build "$build" --target bench >&2
for program in bench_tuner bench_tuner_torch; do
    [ ! -x "$build/bench/$program" ] || "$build/bench/$program" "$@" "$build"
done
