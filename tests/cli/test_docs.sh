#!/bin/sh
# The examples: docs/tune.md's blocks that begin with "# file: NAME" are written, those with "# run" are run, in one directory; then the
# sweeps in examples/sweeps. test_docs.sh SOURCE-FOLDER CADRE
set -eu
source=$1
PATH=$(dirname "$2"):$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
awk '
    /^```/ && inside { inside = 0; file = ""; next }
    /^```(sh|yaml)$/ { inside = 1; first = 1; next }
    inside && first { first = 0; file = $0 == "# run" ? sprintf("run-%02d", ++runs) : ""; if (sub(/^# file: /, "")) file = $0; next }
    inside && file != "" { print > file }' "$source/docs/tune.md"
chmod +x bowl steps
for script in run-*; do
    sh -eu "$script" >log 2>&1 || { echo "$script of docs/tune.md fails:"; cat "$script" log; exit 1; }
done
grep -q '<testsuite name="steps"' results.xml
grep -q '^8 trials: ' summary.md
[ "$(wc -l <steps.csv)" -eq 9 ]
cp -r "$source/examples/sweeps" sweeps
cd sweeps
command -v python3 >/dev/null && { cadre tune python.yaml -n 6 >log 2>&1 && cadre best python >best || { cat log; exit 1; }; }
cadre tune shell.yaml >log 2>&1 || { cat log; exit 1; }
grep -q '^9 trials in .*: 9 complete' log
