#!/usr/bin/env python3
"""COCO's BBOB functions (coco-experiment, PyPI): a searcher of ours through the C interface, or pycma.

  run_bbob.py --who cadre-cmaes --lib build/lib/libbench_searcher.so --out bbob.csv [--options JSON] [--label NAME]
  run_bbob.py --who pycma --out bbob.csv
  run_bbob.py --report bbob.csv [--ours cadre-cmaes] [--theirs pycma] [--budget EVALUATIONS-A-DIMENSION]

A row of the results is one run: function, dimension, instance, searcher, and the best value less the optimum after so many evaluations
times the dimension. Runs that are in the file already are passed over. pycma: fmin2 with BIPOP restarts, from a point drawn from
[-4, 4] with sigma 2. Ours: the box [-5, 5]. A run ends early when it is within 1e-8 of the optimum. The report counts the share of
(function, instance, target) reached, 51 targets a run, 10^2 to 10^-8, as COCO does.
"""

import argparse
import csv
import ctypes
import math
import os
import statistics
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

MARKS = [5, 10, 20, 30, 50, 100, 200, 300, 500, 1000]
TARGETS = [10 ** (2 - k / 5) for k in range(51)]
FINAL = 1e-8


class Over(Exception):
    pass


class Objective:
    """Counts, remembers the best, and ends the run."""

    def __init__(self, problem, optimum, budget):
        self.problem, self.optimum, self.budget = problem, optimum, budget
        self.count, self.best, self.row = 0, math.inf, []

    def __call__(self, x):
        value = self.problem(x)
        self.count += 1
        self.best = min(self.best, value - self.optimum)
        while len(self.row) < len(MARKS) and self.count >= MARKS[len(self.row)] * self.problem.dimension:
            self.row.append(self.best)
        if self.best <= FINAL or self.count >= self.budget:
            raise Over
        return value


def optimum_of(problem):
    problem._best_parameter("print")
    with open("._bbob_problem_best_parameter.txt") as file:
        return problem([float(word) for word in file.read().split()])


def run_cadre(lib, name, options, objective, seed):
    import numpy

    n = objective.problem.dimension
    searcher = lib.bench_searcher_new(name.encode(), options.encode() if options else None, n, -5, 5, seed)
    if not searcher:
        raise SystemExit("no such searcher")
    x = numpy.zeros(n)
    at = x.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    try:
        while lib.bench_searcher_ask(searcher, at) == 0:
            lib.bench_searcher_tell(searcher, objective(x))
    except Over:
        pass
    lib.bench_searcher_free(searcher)


def run_pycma(objective, seed):
    import cma
    import numpy

    n = objective.problem.dimension
    rng = numpy.random.default_rng(seed)
    options = {"verbose": -9, "seed": seed + 1, "maxfevals": objective.budget, "verb_disp": 0, "verb_log": 0}
    try:
        while True:
            cma.fmin2(objective, lambda: rng.uniform(-4, 4, n), 2, options, restarts=9, bipop=True)
    except Over:
        pass


def load(path):
    lib = ctypes.CDLL(os.path.abspath(path))
    lib.bench_searcher_new.restype = ctypes.c_void_p
    lib.bench_searcher_new.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_double, ctypes.c_double, ctypes.c_uint64]
    lib.bench_searcher_ask.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_double)]
    lib.bench_searcher_tell.argtypes = [ctypes.c_void_p, ctypes.c_double]
    lib.bench_searcher_free.argtypes = [ctypes.c_void_p]
    return lib


def run(args):
    import cocoex

    label = args.label or args.who
    lib = load(args.lib) if args.who != "pycma" else None
    out = os.path.abspath(args.out)
    done = set()
    if os.path.exists(out):
        with open(out, newline="") as file:
            done = {tuple(row[:4]) for row in csv.reader(file)}
    else:
        with open(out, "w") as file:
            file.write("function,dimension,instance,searcher," + ",".join(f"at{mark}" for mark in MARKS) + "\n")
    home = tempfile.mkdtemp()
    os.chdir(home)
    for instance in range(args.first, args.first + args.instances):
        for dimension in args.dims:
            suite = cocoex.Suite("bbob", f"instances: {instance}", f"dimensions: {dimension}")
            for index in range(len(suite)):
                function = index + 1
                if (args.only and function not in args.only) or (str(function), str(dimension), str(instance), label) in done:
                    continue
                problem = suite.get_problem(index)
                objective = Objective(problem, optimum_of(problem), args.budget * dimension)
                seed = args.seed + 1000 * instance + function
                if args.who == "pycma":
                    run_pycma(objective, seed)
                else:
                    run_cadre(lib, args.who.split("-", 1)[1], args.options, objective, seed)
                row = objective.row + [objective.best] * (len(MARKS) - len(objective.row))
                with open(out, "a") as file:
                    file.write(f"{function},{dimension},{instance},{label}," + ",".join(f"{value:.3g}" for value in row) + "\n")
                problem.free()


def report(args):
    runs = {}
    with open(args.report, newline="") as file:
        for row in csv.DictReader(file):
            key = int(row["dimension"]), int(row["function"]), int(row["instance"])
            runs.setdefault(key, {})[row["searcher"]] = [float(row[f"at{mark}"]) for mark in MARKS]
    both = {key: sides for key, sides in runs.items() if args.ours in sides and args.theirs in sides}
    marks = [mark for mark in MARKS if mark <= args.budget]
    last = len(marks) - 1

    def share(keys, side, mark):
        return statistics.mean(sum(both[key][side][mark] <= target for target in TARGETS) / len(TARGETS) for key in keys)

    for dimension in sorted({key[0] for key in both}):
        keys = [key for key in both if key[0] == dimension]
        print(f"{dimension} dimensions, {len(keys)} runs each; share of targets after evaluations / dimension:")
        for k, mark in enumerate(marks):
            ours, theirs = share(keys, args.ours, k), share(keys, args.theirs, k)
            print(f"  {mark:5}: {args.ours} {ours:.3f}, {args.theirs} {theirs:.3f}, ratio {ours / theirs if theirs else math.nan:.3f}")
        line = "  by function at the end, ours/theirs:"
        for function in sorted({key[1] for key in keys}):
            of = [key for key in keys if key[1] == function]
            line += f" f{function} {share(of, args.ours, last):.2f}/{share(of, args.theirs, last):.2f}"
        print(line)
    ours, theirs = share(both, args.ours, last), share(both, args.theirs, last)
    print(f"all: {ours:.4f} against {theirs:.4f}, ratio {ours / theirs:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--who", default="cadre-cmaes")
    parser.add_argument("--lib")
    parser.add_argument("--out")
    parser.add_argument("--options")
    parser.add_argument("--label")
    parser.add_argument("--dims", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--instances", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report")
    parser.add_argument("--ours", default="cadre-cmaes")
    parser.add_argument("--theirs", default="pycma")
    args = parser.parse_args()
    report(args) if args.report else run(args)


if __name__ == "__main__":
    main()
