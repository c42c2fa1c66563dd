#!/bin/sh
# What we write, the safetensors package of Python reads, and the other way round: check_python.sh SAMPLE-PROGRAM BUILD-FOLDER.
set -eu
sample=$1
build=$2
here=$(dirname "$0")

python=$("$here/python_env.sh" "$build/python-env") || exit $?
work=$(mktemp -d "$build/python-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$sample" write "$work/checkpoint"
"$python" "$here/check_python.py" read "$work/checkpoint"
"$sample" shard "$work/shards"
"$python" "$here/check_python.py" read_shards "$work/shards"
"$python" "$here/check_python.py" write "$work/foreign.safetensors"
"$sample" read "$work/foreign.safetensors"
