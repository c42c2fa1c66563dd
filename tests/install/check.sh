#!/bin/sh
# check.sh BUILD-FOLDER CMAKE CC WITH_TORCH WITH_MPI: install into a new folder, move that elsewhere, and there build and run programs from
# outside, with CMake's package and with pkg-config.
set -eu
build=$1 cmake=$2 cc=$3 torch=$4 mpi=$5
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$(mktemp -d "$build/install-XXXXXX")
trap 'rm -rf "$work"' EXIT
step() { echo "-- $*"; }

# DESTDIR and a prefix in the environment are the packager's, not this test's.
unset DESTDIR CMAKE_INSTALL_PREFIX LD_LIBRARY_PATH_64 || true
step install
"$cmake" --install "$build" --prefix "$work/first-place" >"$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }
mv "$work/first-place" "$work/prefix"
prefix=$work/prefix
pc=$(dirname "$(find "$prefix" -name cadre.pc)")
libdir=$(dirname "$pc")
export PKG_CONFIG_PATH="$pc"

run() { # run PROGRAM: in a folder of its own
    step "run $1"
    mkdir "$work/run" && (cd "$work/run" && "$1") && rm -rf "$work/run"
}

step "CMake's package"
"$cmake" -S "$here" -B "$work/cmake" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" -DWITH_TORCH="$torch" >"$work/cmake.log" 2>&1 &&
    "$cmake" --build "$work/cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
run "$work/cmake/first"
[ "$torch" != ON ] || run "$work/cmake/first_torch"

step pkg-config
pkg-config --exists 'cadre >= 0.1'
# shellcheck disable=SC2046
"$cc" -std=c11 -Wall -Werror "$here/first.c" -o "$work/first" $(pkg-config --cflags --libs cadre) -Wl,-rpath,"$libdir"
run "$work/first"
if [ "$torch" = ON ]; then
    # shellcheck disable=SC2046
    "$cc" -std=c11 -Wall -Werror "$here/first_torch.c" -o "$work/first_torch" $(pkg-config --cflags --libs cadre-torch) -Wl,-rpath,"$libdir"
    run "$work/first_torch"
fi

# The programs in the documents: ```c blocks whose first line is "/* NAME.c: ...". Those that need libtorch are left out without it.
step "the documents' programs"
mkdir "$work/docs"
awk -v out="$work/docs" '
    /^```c$/ { inside = 1; first = 1; next }
    /^```$/ { inside = 0; file = ""; next }
    inside && first { first = 0; file = match($0, /^\/\* [a-z_]+\.c:/) ? out "/" substr($0, 4, RLENGTH - 4) : "" }
    inside && file != "" { print > file }' "$source/README.md" "$source"/docs/*.md
for file in "$work"/docs/*.c; do
    packages=cadre
    if grep -q 'ctorch\.h\|cadre/ddp\.h' "$file"; then
        [ "$torch" = ON ] || continue
        packages=cadre-torch
    fi
    # shellcheck disable=SC2046
    "$cc" -std=c11 -Wall -Wextra -Werror "$file" -o "${file%.c}" $(pkg-config --cflags --libs $packages) -lm -Wl,-rpath,"$libdir"
    run "${file%.c}"
done

# The query in docs/store.md, on the store that such a run left.
if command -v sqlite3 >/dev/null; then
    mkdir "$work/run" && (cd "$work/run" && "$work/first" >/dev/null)
    awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$source/docs/store.md" >"$work/query.sql"
    rows=$(sqlite3 -readonly "$work/run/runs/first/cadre.db" <"$work/query.sql")
    rm -rf "$work/run"
    [ "$rows" = "0|1|sum|6.0
0|2|sum|6.0
0|3|sum|6.0" ] || { printf 'the query gives:\n%s\n' "$rows"; exit 1; }
fi

step "what else is there"
[ "$mpi" != ON ] || [ -f "$libdir/libcadre_mpi.so" ]
for file in "$libdir"/lib*.so; do
    if ldd "$file" | grep "not found"; then
        echo "$file lacks the above"
        exit 1
    fi
    if readelf -d "$file" | grep -E "R(UN)?PATH.*(${build}|${work})"; then
        echo "$file is bound to where it was built"
        exit 1
    fi
done
if [ -e "$prefix/bin/cadre" ]; then
    run "$work/first" >/dev/null
    "$prefix/bin/cadre" info >"$work/info.log" || { cat "$work/info.log"; exit 1; }
fi
echo "installed tree is complete"
