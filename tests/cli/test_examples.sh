#!/bin/sh
# The sweeps among the examples: test_examples.sh FOLDER CADRE
set -eu
PATH=$(dirname "$2"):$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$1" "$work/sweeps"
cd "$work/sweeps"
command -v python3 >/dev/null && { cadre tune python.yaml -n 6 >log 2>&1 && cadre best python >best || { cat log; exit 1; }; }
cadre tune shell.yaml >log 2>&1 || { cat log; exit 1; }
grep -q '^9 trials in .*: 9 complete' log
