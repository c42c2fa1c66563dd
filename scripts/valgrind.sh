#!/bin/sh
# Run the tests of what has no libtorch in it under valgrind (memcheck), processes that they start included: an error, or memory that is
# definitely lost, fails it. Some twenty minutes on two cores; CI runs a sample (scripts/test.sh).
#
#   scripts/valgrind.sh [REGEX]      scripts/valgrind.sh '^tracking_'
set -eu
me=valgrind.sh
. "$(dirname "$0")/lib.sh"

case ${1:-} in
-h | --help)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

# shellcheck disable=SC2086
need $packages_test
# Left out: what kills its processes at moments that are too late under valgrind, and scripts.
tests=${1:-'^(base_.*|collectives_(self|shm|barrier_model)|tracking_(open|rows|faults)|data_(idx|sampler|augment|loader|checkpoint)|state_(config|entries|safetensors|checkpoint|damage|faults)|space.*|search.*|schedule|importance|tuner_(faults|loop)|trainer_(group|options|report)|cli_(sweep|mistakes))$'}

suite=$root/build-valgrind/suite
logs=$root/build-valgrind/logs
build "$root/build-valgrind" -- --preset valgrind
rm -rf "$suite" "$logs"
mkdir -p "$suite" "$logs"

# ctest's own files are one command a line: every program gets valgrind before it and ten times as long.
memcheck="\"valgrind\" \"--quiet\" \"--leak-check=full\" \"--errors-for-leak-kinds=definite\" \"--show-leak-kinds=definite\" \"--error-exitcode=99\" \
\"--trace-children=yes\" \"--trace-children-skip=/bin/*,/usr/bin/*\" \"--log-file=$logs/%p\""
find "$root/build-valgrind" -path "$suite" -prune -o -name CTestTestfile.cmake -exec cat {} + | grep -E '^(add_test|set_tests_properties)\(' |
    sed -e "s|^\(add_test(\[=\[[^]]*\]=\]\) |\1 $memcheck |" -e 's/TIMEOUT "\([0-9]*\)"/TIMEOUT "\10"/' >"$suite/CTestTestfile.cmake"
failed=0
CADRE_FAULT_STRIDE=${CADRE_FAULT_STRIDE:-401} ctest --test-dir "$suite" --output-on-failure --no-tests=error -j "${CTEST_PARALLEL_LEVEL:-2}" -R "$tests" || failed=1

# A process may have been killed before its exit code counted, and a worker's counts for its trial alone: what was found stands in the logs.
find "$logs" -type f -empty -delete
for log in "$logs"/*; do
    [ -e "$log" ] || continue
    failed=1
    say "$log:"
    head -n 60 "$log"
done
[ "$failed" = 0 ] || fail "memcheck found something, or a test failed under it"
say "nothing found"
