#!/usr/bin/env python3
"""Optuna's side of the search bench: its samplers on the problems of problems.c, which is loaded as it stands.

  run_optuna.py --lib build/lib/libbench_problems.so --out results.csv [--data DIR] [--seeds 10] [--only PROBLEM] [--sampler tpe]

A row of the results is one run: problem, searcher, seed, and the regret after 25, 50, ... trials. Runs that are in the file already
are passed over, so it may be stopped and started again at will. Seeds are the outer loop: every problem gets its first seed before
any gets its second. Needs optuna (pinned: 5.0.0).
"""

import argparse
import csv
import ctypes
import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import optuna  # noqa: E402

TRIALS = 200
EVERY = 25


class Dim(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("kind", ctypes.c_char), ("low", ctypes.c_double), ("high", ctypes.c_double),
                ("step", ctypes.c_double), ("log", ctypes.c_int), ("choices", ctypes.c_char_p), ("parent", ctypes.c_int),
                ("parent_value", ctypes.c_int)]


def load(path, data):
    lib = ctypes.CDLL(path)
    lib.bench_problem_name.restype = ctypes.c_char_p
    lib.bench_problem_optimum.restype = ctypes.c_double
    lib.bench_problem_dim.restype = ctypes.POINTER(Dim)
    lib.bench_problem_value.restype = ctypes.c_double
    lib.bench_problem_value.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_double)]
    count = lib.bench_problems_load(data.encode() if data else None)
    if count < 0:
        raise SystemExit(f"the tables below {data} do not read")
    return lib, count


def suggest(trial, dim):
    name = dim.name.decode()
    if dim.kind == b"c":
        choices = dim.choices.decode().split(",")
        return choices.index(trial.suggest_categorical(name, choices))
    if dim.kind == b"i":
        return trial.suggest_int(name, int(dim.low), int(dim.high), log=bool(dim.log))
    return trial.suggest_float(name, dim.low, dim.high, step=dim.step or None, log=bool(dim.log))


def run(lib, problem, make, seed, trials):
    dims = [lib.bench_problem_dim(problem, i).contents for i in range(lib.bench_problem_ndims(problem))]
    x = (ctypes.c_double * len(dims))()

    def objective(trial):
        for i, dim in enumerate(dims):
            there = not dim.parent or x[dim.parent - 1] == dim.parent_value
            x[i] = suggest(trial, dim) if there else float("nan")
        return lib.bench_problem_value(problem, x)

    study = optuna.create_study(sampler=make(seed))
    study.optimize(objective, n_trials=trials)
    best, row = float("inf"), []
    for number, trial in enumerate(study.trials, 1):
        best = min(best, trial.value)
        if number % EVERY == 0:
            row.append(best - lib.bench_problem_optimum(problem))
    return row


SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lib", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trials", type=int, default=TRIALS, help="at most so many; the columns beyond stay empty")
    parser.add_argument("--only", action="append")
    parser.add_argument("--sampler", default="tpe", choices=SAMPLERS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lib, count = load(args.lib, args.data)
    searcher = f"optuna-{optuna.__version__}-{args.sampler}"
    done = set()
    if os.path.exists(args.out):
        with open(args.out, newline="") as file:
            done = {tuple(row[:3]) for row in csv.reader(file)}
    else:
        with open(args.out, "w") as file:
            file.write("problem,searcher,seed," + ",".join(f"r{n}" for n in range(EVERY, TRIALS + 1, EVERY)) + "\n")
    for seed in range(args.first, args.first + args.seeds):
        for problem in range(count):
            name = lib.bench_problem_name(problem).decode()
            if (args.only and name not in args.only) or (name, searcher, str(seed)) in done:
                continue
            row = run(lib, problem, SAMPLERS[args.sampler], seed, args.trials)
            with open(args.out, "a") as file:
                cells = [f"{value:.6g}" for value in row] + [""] * (TRIALS // EVERY - len(row))
                file.write(f"{name},{searcher},{seed}," + ",".join(cells) + "\n")


if __name__ == "__main__":
    main()
