#!/bin/sh
# Install what is missing, build and run all tests: of the release build, of the C rooms under address, undefined behaviour and thread
# sanitizers, and a short run of the fuzz targets. Everything is one run of ctest, whose summary comes last.
#
#   scripts/test.sh [CTEST OPTIONS]      scripts/test.sh -R store      scripts/test.sh -L collectives
#
#   CADRE_FUZZ_SECONDS   for each fuzz target (default 3; 0: none)
#   CADRE_SANITIZERS     which of "asan tsan" (default both; "": neither)
set -eu
me=test.sh
. "$(dirname "$0")/lib.sh"
exec </dev/null

case ${1:-} in
-h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

# shellcheck disable=SC2086
need $packages_test
choose_blas
if [ "$(id -u)" = 0 ]; then # mpirun asks for both
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

suite=$root/build/suite
build "$root/build" -- -DCMAKE_BUILD_TYPE=Release -DCADRE_TESTS=ON -DCADRE_WITH_TORCH=AUTO
rm -rf "$suite"
mkdir -p "$suite"
printf 'subdirs("%s")\n' "$root/build" >"$suite/CTestTestfile.cmake"

# adopt NAME PATTERN: the tests of build-NAME whose names match come into the suite as NAME.test (not those that are Python's or the shell's
# more than ours, which the release build has had). ctest's own files are one command a line.
adopt() {
    find "$root/build-$1" -name CTestTestfile.cmake -exec cat {} + |
        grep -E "^(add_test|set_tests_properties)\(\[=\[($2)" | grep -Ev '^[^]]*(python|optuna|mnist)[^]]*\]=\]' |
        sed "s/^\([a-z_]*\)(\[=\[/&$1./" >"$suite/$1.cmake"
    printf 'include("%s")\n' "$suite/$1.cmake" >>"$suite/CTestTestfile.cmake"
}

for name in ${CADRE_SANITIZERS-asan tsan}; do
    build "$root/build-$name" -- --preset "$name"
    case $name in
    asan) adopt asan '(base|collectives|tracking|data|state|trainer|tuner|cli|space|search|schedule|importance)' ;;
    tsan) adopt tsan '(collectives_(s|nccl_threads)|data_(loader|checkpoint)|base_|trainer_(fit|report))' ;; # what has threads: ranks, the loader, the saver, the log
    esac
done

if [ "${CADRE_FUZZ_SECONDS:-3}" != 0 ]; then
    if command -v clang >/dev/null 2>&1; then
        build "$root/build-fuzz" fuzz -- -DCMAKE_C_COMPILER=clang -DCADRE_FUZZ=ON -DCADRE_WITH_TORCH=OFF -DCADRE_WITH_MPI=OFF \
            -DCADRE_SANITIZE=address,undefined,fuzzer-no-link # as tests/fuzz/run.sh has it
        cat >>"$suite/CTestTestfile.cmake" <<END
add_test(fuzz_sample sh "$root/tests/fuzz/run.sh" ${CADRE_FUZZ_SECONDS:-3})
set_tests_properties(fuzz_sample PROPERTIES ENVIRONMENT "BUILD=$root/build-fuzz;SOURCE=$root" TIMEOUT 300)
END
    else
        say "the fuzz targets are left out: there is no clang"
    fi
fi

export TSAN_OPTIONS="${TSAN_OPTIONS-halt_on_error=1}" # a race ends a worker at once: after its last word nobody looks at its exit code

# Two at a time: many tests wait more than they work. Each has a deadline of its own, and this one where it has not.
ctest --test-dir "$suite" --output-on-failure --no-tests=error --timeout 300 -j "${CTEST_PARALLEL_LEVEL:-2}" "$@"
