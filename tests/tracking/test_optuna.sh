#!/bin/sh
# What Optuna makes of a store: while it is written, after the writer has closed it, and as a study to go on with.
#
# usage: test_optuna.sh WRITER CACHE_DIRECTORY
set -u
writer=$1
here=$(dirname "$0")
pythons=$("$here/optuna_env.sh" "$2")
if [ -z "$pythons" ]; then
    echo "skipped: no Python with Optuna"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for python in $pythons; do
    store=$work/$(echo "$python" | tr / _)/cadre.db
    "$python" -W ignore "$here/check_optuna.py" "$writer" "$store" || exit 1
done
