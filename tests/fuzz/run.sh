#!/bin/sh
# Build the fuzz targets with clang and run each for so many seconds: run.sh SECONDS [NAME...]. BUILD names the build folder
# (default: build-fuzz in the checkout). Exits 1 when a target found something; the input that did it is kept in the build folder.
set -eu
seconds=${1:?usage: run.sh SECONDS [NAME...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
root=${SOURCE:-$(cd "$here/../.." && pwd)}
build=${BUILD:-$root/build-fuzz}

# Every C file is instrumented (fuzzer-no-link) so that the fuzzer sees where its inputs go; loops with that in them do not become vector code.
cmake -S "$root" -B "$build" -G "${CMAKE_GENERATOR:-Ninja}" -DCMAKE_C_COMPILER=clang -DCADRE_FUZZ=ON -DCADRE_WITH_TORCH=OFF \
    -DCADRE_WITH_MPI=OFF -DCADRE_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
cmake --build "$build" --target fuzz >"$build/fuzz.log" 2>&1 || { tail -n 40 "$build/fuzz.log"; exit 1; }

[ $# -gt 0 ] || set -- $(cd "$build/fuzz" && ls | sed -n 's/^fuzz_\([a-z0-9]*\)$/\1/p')
failed=""
for name in "$@"; do
    mkdir -p "$build/corpus/$name" "$build/findings"
    set -- "$build/corpus/$name"
    [ -d "$here/corpus/$name" ] && set -- "$@" "$here/corpus/$name" # new inputs go to the first, the seeds stay as they are
    echo "fuzz_$name for $seconds s"
    if ! "$build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -close_fd_mask=3 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$build/findings/$name-" "$@" >"$build/findings/$name.log" 2>&1; then
        tail -n 40 "$build/findings/$name.log"
        failed="$failed $name"
    fi
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$build/findings/$name.log" || true
done
[ -z "$failed" ] || { echo "findings:$failed (in $build/findings)"; exit 1; }
