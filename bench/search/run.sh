#!/bin/sh
# The search bench, one command: run.sh BUILD-FOLDER [DATA-FOLDER] [SEEDS] [SEARCHER] [OPTUNA-SAMPLER] [TRIALS] [FIRST-SEED]
# Ours, random search, and Optuna's from PyPI (pinned; in a virtual environment below the build folder), in turn over seeds, then the
# report, ranks and plots. Runs that are in the results file already are passed over: it may be interrupted, and started again with more seeds.
# Optuna's gp is slow: take 100 trials, 10 seeds, and as many evenings as it needs.
set -eu
build=$1
data=${2:-}
seeds=${3:-30}
searcher=${4:-tpe}
sampler=${5:-tpe}
trials=${6:-200}
first=${7:-0}
here=$(cd "$(dirname "$0")" && pwd)
venv=$build/optuna-5.0.0
out=$build/search-results.csv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import optuna; assert optuna.__version__ == "5.0.0"' 2>/dev/null ||
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
[ "$sampler" != gp ] || "$venv/bin/python" -c 'import torch' 2>/dev/null ||
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt" -r "$here/requirements-gp.txt"
cmake --build "$build" --target bench_search bench_problems >/dev/null
seed=$first
while [ "$seed" -lt $((first + seeds)) ]; do
    "$build/bin/bench_search" --out "$out" --first "$seed" --seeds 1 --trials "$trials" --searcher random ${data:+--data "$data"}
    "$build/bin/bench_search" --out "$out" --first "$seed" --seeds 1 --trials "$trials" --searcher "$searcher" ${data:+--data "$data"}
    "$venv/bin/python" "$here/run_optuna.py" --lib "$build/lib/libbench_problems.so" --out "$out" --first "$seed" --seeds 1 \
        --trials "$trials" --sampler "$sampler" ${data:+--data "$data"}
    seed=$((seed + 1))
done
"$build/bin/bench_search" --speed --searcher "$searcher"
python3 "$here/report.py" "$out" --ours "cadre-$searcher" --theirs "optuna-5.0.0-$sampler" --at 50 100 $([ "$trials" -lt 200 ] || echo 200)
python3 "$here/ranks.py" "$out" --at 50 100 $([ "$trials" -lt 200 ] || echo 200) --plots "$build/search-plots"
