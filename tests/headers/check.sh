#!/bin/sh
# Every public header compiles alone, as C11 and as C++17, with every compiler there is, and so does a program with all public macros:
# check.sh SOURCE-FOLDER.
set -u
root=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
checks=0

# compile COMPILER LANGUAGE STANDARD NAME: what is in $work/one.LANGUAGE.
compile() {
    checks=$((checks + 1))
    if ! "$1" "-std=$3" -Wall -Wextra -Wpedantic -Werror "-I$root/include" -fsyntax-only "$work/one.$2" 2>"$work/log"; then
        echo "$4 does not compile alone with $1 -std=$3:"
        cat "$work/log"
        failed=$((failed + 1))
    fi
}

# check COMPILER LANGUAGE STANDARD HEADER: twice included, so that a missing guard shows.
check() {
    printf '#include "%s"\n#include "%s"\nextern int headers_stand_alone;\n' "$4" "$4" >"$work/one.$2"
    compile "$@"
}

for file in "$root"/include/*.h "$root"/include/cadre/*.h; do
    [ -e "$file" ] || continue
    header=${file#"$root"/include/}
    for compiler in gcc clang; do
        command -v "$compiler" >/dev/null && check "$compiler" c c11 "$header"
    done
    for compiler in g++ clang++; do
        command -v "$compiler" >/dev/null && check "$compiler" cpp c++17 "$header"
    done
done
for language in c cpp; do
    cp "$root/tests/headers/macros.c" "$work/one.$language"
done
for compiler in gcc clang; do
    command -v "$compiler" >/dev/null && compile "$compiler" c c11 macros.c
done
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null && compile "$compiler" cpp c++17 macros.c
done
echo "$checks compilations, $failed failed"
[ "$checks" -gt 0 ] && [ "$failed" -eq 0 ]
