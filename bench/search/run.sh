#!/bin/sh
# The search bench, one command: run.sh BUILD-FOLDER [DATA-FOLDER] [SEEDS] [SEARCHER] [OPTUNA-SAMPLER]
# Ours, random search, and Optuna's from PyPI (pinned; in a virtual environment below the build folder), in turn over seeds, then the
# report. Runs that are in the results file already are passed over: it may be interrupted, and started again with more seeds.
set -eu
build=$1
data=${2:-}
seeds=${3:-30}
searcher=${4:-tpe}
sampler=${5:-tpe}
here=$(cd "$(dirname "$0")" && pwd)
venv=$build/optuna-5.0.0
out=$build/search-results.csv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import optuna; assert optuna.__version__ == "5.0.0"' 2>/dev/null ||
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
cmake --build "$build" --target bench_search bench_problems >/dev/null
seed=0
while [ "$seed" -lt "$seeds" ]; do
    "$build/bin/bench_search" --out "$out" --first "$seed" --seeds 1 --searcher random ${data:+--data "$data"}
    "$build/bin/bench_search" --out "$out" --first "$seed" --seeds 1 --searcher "$searcher" ${data:+--data "$data"}
    "$venv/bin/python" "$here/run_optuna.py" --lib "$build/lib/libbench_problems.so" --out "$out" --first "$seed" --seeds 1 \
        --sampler "$sampler" ${data:+--data "$data"}
    seed=$((seed + 1))
done
"$build/bin/bench_search" --speed --searcher "$searcher"
python3 "$here/report.py" "$out" --ours "cadre-$searcher" --theirs "optuna-5.0.0-$sampler"
