#!/bin/sh
# What faults cost, and being ready for them where none occur: builds and runs bench_faults, bench_saving, bench_sweep and, where there is libtorch, bench_cost. 15 minutes.
#
#     bench/faults/run.sh [BUILD_DIRECTORY]
set -eu
me=bench/faults/run.sh
. "$(dirname "$0")/../../scripts/lib.sh"
root=$(cd "$(dirname "$0")/../.." && pwd) # lib.sh takes its callers to lie beside it
choose_blas >&2
build=${1:-$root/build}
[ -e "$build/CMakeCache.txt" ] || cmake -S "$root" -B "$build" -G Ninja >&2
cmake --build "$build" --target bench >&2
for program in bench_faults bench_saving bench_cost bench_sweep; do
    [ ! -x "$build/bench/$program" ] || "$build/bench/$program" "$build"
done
