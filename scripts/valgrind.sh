#!/bin/sh
# Run the tests of what has no libtorch in it under valgrind (memcheck), processes that they start included: an error, or memory that is
# definitely lost, fails it. Of tests that end their own processes errors alone count: what those held is lost. 20 minutes on two cores.
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
# Left out: what counts descriptors, of which valgrind has some (trainer_fit), what wants so many reports or kills within a minute (tuner_loop,
# tracking_kill, the trainer's matrix) or a descriptor of a process, which valgrind has none of (collectives_nccl), and what would take an hour (search_gp).
killing='state_shards|tracking_faults|trainer_saving'
tests=${1:-"^(base_.*|collectives_(self|shm|shm_faults|barrier_model)|tracking_(open|rows|steps)|data_(idx|sampler|augment|loader|checkpoint)|state_(config|entries|safetensors|checkpoint|\
faults|damage)|space.*|importance|search_(tpe|bohb|qmc|cma|auto)|schedule|trainer_(group|options|security|zygote|report|resume|crash|stop)|tuner_(faults|resume)|\
cli|cli_(sweep|tune|mistakes)|$killing)\$"}

suite=$root/build-valgrind/suite
logs=$root/build-valgrind/logs
build "$root/build-valgrind" -- --preset valgrind
rm -rf "$suite" "$logs"
mkdir -p "$suite" "$logs"

# ctest's own files are one command a line: every program gets valgrind before it and ten times as long.
memcheck="\"valgrind\" \"--quiet\" \"--vgdb=no\" \"--leak-check=full\" \"--errors-for-leak-kinds=definite\" \"--show-leak-kinds=definite\" \"--error-exitcode=99\" \
\"--trace-children=yes\" \"--trace-children-skip=/bin/*,/usr/bin/*\" \"--log-file=$logs/%p\""
find "$root/build-valgrind" -path "$suite" -prune -o -name CTestTestfile.cmake -exec cat {} + | grep -E '^(add_test|set_tests_properties)\(' |
    sed -e "s|^\(add_test(\[=\[[^]]*\]=\]\) |\1 $memcheck |" -e 's/TIMEOUT "\([0-9]*\)"/TIMEOUT "\10"/' |
    sed -E "/^add_test\(\[=\[($killing)\]/s/--leak-check=full/--leak-check=no/" >"$suite/CTestTestfile.cmake"
failed=0
CADRE_FAULT_STRIDE=${CADRE_FAULT_STRIDE:-401} ctest --test-dir "$suite" --output-on-failure --no-tests=error -j "${CTEST_PARALLEL_LEVEL:-2}" -R "$tests" || failed=1

# A process may have been killed before its exit code counted, and a worker's counts for its trial alone: what was found stands in the logs.
find "$logs" -type f -empty -delete
for log in "$logs"/*; do
    grep -qs '^==' "$log" || continue # not what valgrind itself does not know
    failed=1
    say "$log:"
    head -n 60 "$log"
done
[ "$failed" = 0 ] || fail "memcheck found something, or a test failed under it"
say "nothing found"
