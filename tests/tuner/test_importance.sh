#!/bin/sh
# Importance of parameters against Optuna's.
#
# usage: test_importance.sh CADRE CACHE_DIRECTORY
set -u
here=$(dirname "$0")
pythons=$("$here/../tracking/optuna_env.sh" "$2")
if [ -z "$pythons" ]; then
    echo "skipped: no Python with Optuna"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for python in $pythons; do
    mkdir "$work/stores"
    "$python" -W ignore "$here/check_importance.py" "$1" "$work/stores" || exit 1
    rm -rf "$work/stores"
done
