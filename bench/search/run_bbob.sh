#!/bin/sh
# COCO's BBOB functions, one command: run_bbob.sh BUILD-FOLDER [INSTANCES] [SEARCHER]
# Ours and pycma from PyPI (pinned; in a virtual environment below the build folder), in turn over instances, in 5, 10 and 20 dimensions with
# 1,000 evaluations a dimension, then the report. Runs that are in the results file already are passed over.
set -eu
build=$1
instances=${2:-5}
searcher=${3:-cmaes}
here=$(cd "$(dirname "$0")" && pwd)
venv=$build/bbob
out=$build/bbob.csv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import cma, cocoex' 2>/dev/null || "$venv/bin/pip" install --quiet -r "$here/requirements-bbob.txt"
cmake --build "$build" --target bench_searcher >/dev/null
instance=1
while [ "$instance" -le "$instances" ]; do
    for who in "cadre-$searcher" pycma; do
        "$venv/bin/python" "$here/run_bbob.py" --who "$who" --lib "$build/lib/libbench_searcher.so" --out "$out" --first "$instance" --instances 1
    done
    instance=$((instance + 1))
done
"$venv/bin/python" "$here/run_bbob.py" --report "$out" --ours "cadre-$searcher"
