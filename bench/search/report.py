#!/usr/bin/env python3
"""What the search bench came to: report.py results.csv [more.csv ...] --ours cadre-tpe --theirs optuna-5.0.0-tpe --random cadre-random

For every problem the medians over seeds of both sides' regrets after 50, 100 and 200 trials, floored at 1e-3 of random search's median after as many; their ratio (below 1: ours is better);
and the two-sided p of the Mann-Whitney test (normal approximation with ties and continuity correction). Then the geometric mean of the ratios over problems.
"""

import argparse
import csv
import math
import statistics


def mann_whitney(a, b):
    values = sorted(a + b)
    rank, ties, i = {}, 0, 0
    while i < len(values):
        j = i
        while j < len(values) and values[j] == values[i]:
            j += 1
        rank[values[i]] = (i + 1 + j) / 2
        ties += (j - i) ** 3 - (j - i)
        i = j
    n, m = len(a), len(b)
    u = sum(rank[value] for value in a) - n * (n + 1) / 2
    variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, 0) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def read(paths):
    runs = {}
    for path in paths:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                regrets = {int(key[1:]): float(value) for key, value in row.items() if key[0] == "r" and value}
                runs.setdefault(row["problem"], {}).setdefault(row["searcher"], []).append(regrets)
    return runs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--ours", default="cadre-tpe")
    parser.add_argument("--theirs", default="optuna-5.0.0-tpe")
    parser.add_argument("--random", default="cadre-random")
    parser.add_argument("--at", type=int, nargs="+", default=[50, 100, 200])
    args = parser.parse_args()
    logs = {n: [] for n in args.at}
    worse = []
    print(f"{'problem':28}{'seeds':>8}" + "".join(f"{'@' + str(n) + ' ours':>12}{'theirs':>11}{'ratio':>7}{'p':>7}" for n in args.at))
    for problem, sides in read(args.files).items():
        if not all(name in sides for name in (args.ours, args.theirs, args.random)):
            continue
        ours, theirs = sides[args.ours], sides[args.theirs]
        line = f"{problem:28}{len(ours):>4}/{len(theirs):<3}"
        for n in args.at:
            floor = 1e-3 * statistics.median(run[n] for run in sides[args.random])
            a = [max(run[n], floor) for run in ours]
            b = [max(run[n], floor) for run in theirs]
            # A best that every run finds has regret 0 and no floor: equal.
            ratio = statistics.median(a) / statistics.median(b) if statistics.median(b) > 0 else 1.0
            p = mann_whitney(a, b)
            logs[n].append(math.log(ratio))
            if ratio > 1 and p < 0.01:
                worse.append(f"{problem} at {n}")
            line += f"{statistics.median(a):>12.4g}{statistics.median(b):>11.4g}{ratio:>7.2f}{p:>7.3f}"
        print(line)
    if not any(logs.values()):
        raise SystemExit("no problem has runs of all three")
    print("geometric mean of the ratios: " + ", ".join(f"{math.exp(statistics.mean(logs[n])):.3f} at {n}" for n in args.at))
    print("worse at p < 0.01: " + (", ".join(worse) if worse else "none"))


if __name__ == "__main__":
    main()
