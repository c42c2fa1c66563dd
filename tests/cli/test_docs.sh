#!/bin/sh
# One page of the documents, run as a reader would: test_docs.sh PAGE CADRE CC FLAGS LIBRARY-FOLDER ENVIRONMENTS.
#
# In one empty directory, from top to bottom: a block whose first line is "# file: NAME" (in SQL "-- file: NAME") is written to that file, a C
# program, whose first line is "/* NAME.c: ...", likewise; a shell block that begins with "# run" is run. `cc` and `pkg-config cadre` are this
# build's. Blocks that need what this machine has not (sqlite3, Python with Optuna, libtorch) are left out, and that is said.
set -eu
page=$1 cadre=$2 cc=$3 flags=$4 libraries=$5 environments=$6
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/blocks" "$work/run"
ln -s "$cadre" "$work/bin/cadre"
printf '#!/bin/sh\nexec %s "$@"\n' "$cc" >"$work/bin/cc"
chmod +x "$work/bin/cc"
cat >"$work/bin/cadre.pc" <<END
Name: cadre
Description: this build
Version: 0
Cflags: -I$source/include $flags
Libs: -L$libraries -lcadre -Wl,-rpath,$libraries $flags
END
export PATH="$work/bin:$PATH" PKG_CONFIG_PATH="$work/bin"

# blocks/NN-run, blocks/NN-file-NAME, in order
awk -v out="$work/blocks/" '
    /^```/ && inside { inside = 0; if (file != "") close(file); file = ""; next }
    /^```/ { inside = 1; first = 1; language = substr($0, 4); next }
    inside && first {
        first = 0
        if (language == "sh" && $0 == "# run") file = sprintf("%s%02d-run", out, ++count)
        else if (match($0, /^(#|--) file: /)) file = sprintf("%s%02d-file-%s", out, ++count, substr($0, RLENGTH + 1))
        else if (language == "c" && match($0, /^\/\* [a-z_]+\.c:/)) file = sprintf("%s%02d-file-%s", out, ++count, substr($0, 4, RLENGTH - 4))
        if ($0 !~ /^#/ && file != "") print > file
        next
    }
    inside && file != "" { print > file }' "$page"

# The newest Optuna is the one that the store's tests have installed, if they have.
for python in "$environments"/optuna-*/bin/python; do
    [ ! -x "$python" ] || printf '#!/bin/sh\nexec %s -W ignore "$@"\n' "$python" >"$work/bin/python3"
    [ ! -x "$python" ] || chmod +x "$work/bin/python3"
done
lacks() { # lacks BLOCK: what this machine has not
    if grep -q sqlite3 "$1" && ! command -v sqlite3 >/dev/null; then
        echo sqlite3
    elif grep -q 'pkg-config.*cadre-torch' "$1"; then
        echo libtorch
    elif grep -q '^python3' "$1" && ! python3 -c 'import optuna; assert optuna.__version__ >= "4"' 2>/dev/null; then
        echo "Python with Optuna"
    fi
}

cd "$work/run"
ran=0
left=0
for block in "$work"/blocks/*; do
    name=${block##*/}
    case $name in
    *-file-*)
        cp "$block" "${name#*-file-}"
        ! head -n 1 "$block" | grep -q '^#!' || chmod +x "${name#*-file-}"
        continue
        ;;
    esac
    missing=$(lacks "$block")
    if [ -n "$missing" ]; then
        echo "left out, for want of $missing: $(head -n 1 "$block")"
        left=$((left + 1))
        continue
    fi
    sh -eu "$block" >"$work/log" 2>&1 || { echo "$page: this block fails:"; cat "$block" "$work/log"; exit 1; }
    ran=$((ran + 1))
done
[ "$ran" -gt 0 ] || [ "$left" = 0 ] || exit 77 # all that there is needs what is not here
[ "$ran" -gt 0 ] || { echo "$page: no block of it runs"; exit 1; }
echo "$page: $ran blocks ran"
