#!/bin/sh
# What Optuna makes of the tuner's stores.
#
# usage: test_optuna.sh OPTUNA_TUNER CADRE CACHE_DIRECTORY
set -u
here=$(dirname "$0")
pythons=$("$here/../tracking/optuna_env.sh" "$3")
if [ -z "$pythons" ]; then
    echo "skipped: no Python with Optuna"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for python in $pythons; do
    mkdir "$work/stores"
    "$python" -W ignore "$here/check_optuna.py" "$1" "$2" "$work/stores" || exit 1
    rm -rf "$work/stores"
done
