# What run.sh and test.sh share; sourced by them, not run. POSIX sh.

unset CDPATH
root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s: %s\n' "$me" "$*"; }
fail() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# Debian's packages: to build and run, and what the tests need besides. Open MPI is for the mpi backend alone.
packages_run='gcc g++ cmake ninja-build pkg-config libtorch-dev libopenmpi-dev openmpi-bin libsqlite3-dev libuv1-dev libjansson-dev
zlib1g-dev libxxhash-dev libyaml-dev libopenblas0-openmp dataset-fashion-mnist'
packages_test="$packages_run libcmocka-dev python3-torch python3-numpy python3-optuna python3-venv python3-pip clang
libclang-rt-14-dev iproute2 locales sqlite3 valgrind"

installed() {
    case $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) in
    ?i*) return 0 ;;
    esac
    # Another BLAS that starts no threads before main does as well.
    [ "$1" = libopenblas0-openmp ] && installed libopenblas0-serial
}

# as_root COMMAND...: apt-get as root, without asking anything, whatever the caller's umask is (apt keeps files that all must read).
as_root() {
    if [ "$(id -u)" = 0 ]; then
        (umask 022 && DEBIAN_FRONTEND=noninteractive "$@" </dev/null)
    else
        (umask 022 && sudo -n env DEBIAN_FRONTEND=noninteractive "$@" </dev/null)
    fi
}

# need PACKAGE...: install those that are missing.
need() {
    if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
        say "this is not Debian: nothing is installed; what is missing will be named below (README.md lists it)"
        return 0
    fi
    missing=''
    for package in "$@"; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    line="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" != 0 ] && ! { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }; then
        say "packages are missing, and this is neither root nor has sudo without a password; as root, run:" >&2
        printf '    %s\n' "$line" >&2
        exit 1
    fi
    log=$(mktemp)
    say "installing$missing"
    # shellcheck disable=SC2086
    if ! apt-cache show --no-all-versions $missing >/dev/null 2>&1; then
        as_root apt-get update -q >>"$log" 2>&1 || say "apt-get update failed: going on with the lists there are"
    fi
    set -- -y -q --no-install-recommends -o DPkg::Lock::Timeout=300
    # shellcheck disable=SC2086
    if ! as_root apt-get install "$@" $missing >>"$log" 2>&1; then
        # Old lists name packages that the mirrors no longer have.
        # shellcheck disable=SC2086
        if ! { as_root apt-get update -q && as_root apt-get install "$@" $missing; } >>"$log" 2>&1; then
            tail -n 30 "$log" >&2
            fail "the packages could not be installed; the whole output is in $log, the line was: $line"
        fi
    fi
    rm -f "$log"
}

# The pthread variant of OpenBLAS starts a thread before main, so that no worker could be forked. Where it is the one in use, our
# programs get the other one; the system's choice is left as it is.
choose_blas() {
    for link in /usr/lib/*/libblas.so.3; do
        case $(readlink -f "$link") in
        */openblas-pthread/*)
            for kind in openmp serial; do
                other=${link%/*}/openblas-$kind
                if [ -e "$other/libblas.so.3" ]; then
                    say "libblas is OpenBLAS with pthreads; using $other for this run"
                    LD_LIBRARY_PATH=$other${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
                    export LD_LIBRARY_PATH
                    return
                fi
            done
            say "libblas is OpenBLAS with pthreads, which has threads before main: workers will be started anew, not forked (apt-get install libopenblas0-openmp)"
            ;;
        esac
    done
}

# Compiling against libtorch takes some 1.5 GB a process.
build_jobs() {
    cores=$(nproc 2>/dev/null || echo 1)
    fits=$(awk '/^MemAvailable:/ { print int($2 / 1572864) }' /proc/meminfo 2>/dev/null)
    [ "${fits:-1}" -ge 1 ] || fits=1
    [ "$cores" -le "${fits:-1}" ] && echo "$cores" || echo "${fits:-1}"
}

# live: can a line on the screen be drawn over?
live() { [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; }

# build DIRECTORY TARGETS... -- OPTIONS...: configure and build, as one line on a terminal; the whole output when it fails.
build() {
    directory=$1
    shift
    targets=''
    while [ "$1" != -- ]; do
        targets="$targets $1"
        shift
    done
    shift
    mkdir -p "$directory" 2>/dev/null && [ -w "$directory" ] ||
        fail "cannot write to $directory: is the checkout another user's? (clone it for yourself)"
    directory=$(cd "$directory" && pwd)
    # A build folder that was copied along with a checkout belongs to the old place.
    if [ -e "$directory/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$directory/CMakeCache.txt"; then
        rm -rf "$directory/CMakeCache.txt" "$directory/CMakeFiles"
    fi
    [ -e "$directory/CMakeCache.txt" ] || set -- -G Ninja "$@"
    log=$directory/build.log
    begun=$(date +%s)
    live || say "building ${directory#"$root/"} (output in ${log#"$root/"})"
    {
        cmake -S "$root" -B "$directory" "$@" 2>&1 &&
            if [ -n "$targets" ]; then
                # shellcheck disable=SC2086
                cmake --build "$directory" --parallel "$(build_jobs)" --target $targets 2>&1
            else
                cmake --build "$directory" --parallel "$(build_jobs)" 2>&1
            fi
        echo $? >"$directory/build.status"
    } </dev/null | tee "$log" | if live; then
        while IFS= read -r line; do
            case $line in
            '['*/*']'*) printf '\r%s: building %s %s\033[K' "$me" "${directory#"$root/"}" "${line%%]*}]" ;;
            esac
        done
        printf '\r\033[K'
    else
        cat >/dev/null
    fi
    if [ "$(cat "$directory/build.status" 2>/dev/null)" != 0 ]; then
        cat "$log" >&2
        fail "the build in $directory failed; its output is above and in $log"
    fi
    say "built ${directory#"$root/"} in $(($(date +%s) - begun)) s"
}
