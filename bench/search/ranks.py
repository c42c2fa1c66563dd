#!/usr/bin/env python3
"""All searchers of some results files against one another: ranks.py results.csv [more.csv ...] [--only NAME ...] [--at 50 100 200] [--plots FOLDER]

For every problem the searchers are ranked by the median over seeds of the regret after so many trials (equal ones share their rank); then the mean of the ranks
over the problems that all of them have. The plots, one SVG a problem, show the median regret over trials, and the quartiles as a band.
"""

import argparse
import csv
import html
import math
import os
import statistics

COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f", "#bcbd22", "#e377c2"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 200, 30, 40


def read(paths, only):
    runs = {}
    for path in paths:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if only and row["searcher"] not in only:
                    continue
                regrets = {int(key[1:]): float(value) for key, value in row.items() if key[0] == "r" and value}
                runs.setdefault(row["problem"], {}).setdefault(row["searcher"], []).append(regrets)
    return runs


def median(runs, n):
    values = [run[n] for run in runs if n in run]
    return statistics.median(values) if values else None


def ranks(runs, names, n):
    """{searcher: [rank on each problem that all have]}"""
    out = {name: [] for name in names}
    for sides in runs.values():
        values = {name: median(sides.get(name, []), n) for name in names}
        if any(value is None for value in values.values()):
            continue
        for name in names:
            below = sum(values[other] < values[name] for other in names)
            equal = sum(values[other] == values[name] for other in names)
            out[name].append(below + (equal + 1) / 2)
    return out


def quartiles(runs, n):
    values = sorted(run[n] for run in runs if n in run)
    return [values[int(share * (len(values) - 1) + 0.5)] for share in (0.25, 0.5, 0.75)] if values else None


def plot(path, problem, sides, names):
    marks = sorted({n for side in sides.values() for run in side for n in run})
    curves = {name: [(n, quartiles(sides[name], n)) for n in marks if quartiles(sides[name], n)] for name in names if name in sides}
    positive = [value for curve in curves.values() for _, three in curve for value in three if value > 0]
    if not positive:
        return
    low, high = math.log10(max(min(positive), max(positive) * 1e-8)), math.log10(max(positive))
    high = max(high, low + 1e-3)

    def at(n, value):
        x = LEFT + (WIDTH - LEFT - RIGHT) * n / marks[-1]
        log = max(math.log10(value), low) if value > 0 else low
        return f"{x:.1f},{TOP + (HEIGHT - TOP - BOTTOM) * (high - log) / (high - low):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{LEFT}" y="18">{html.escape(problem)}: regret over trials, median and quartiles</text>']
    for decade in range(math.ceil(low), math.floor(high) + 1):
        left, right = at(0, 10**decade), at(marks[-1], 10**decade)
        parts.append(f'<polyline points="{left} {right}" stroke="#ddd" fill="none"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(left.split(",")[1]) + 4}" text-anchor="end">1e{decade}</text>')
    for n in marks:
        if n % 50 == 0:
            parts.append(f'<text x="{at(n, 1).split(",")[0]}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n}</text>')
    for k, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        band = [at(n, three[0]) for n, three in curve] + [at(n, three[2]) for n, three in reversed(curve)]
        parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.12"/>')
        parts.append(f'<polyline points="{" ".join(at(n, three[1]) for n, three in curve)}" stroke="{colour}" stroke-width="2" fill="none"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 14 + 16 * k}" fill="{colour}">{html.escape(name)}</text>')
    with open(path, "w") as file:
        file.write("\n".join(parts + ["</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--at", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--plots")
    args = parser.parse_args()
    runs = read(args.files, args.only)
    names = sorted({name for sides in runs.values() for name in sides})
    for n in args.at:
        there = [name for name in names if any(median(sides.get(name, []), n) is not None for sides in runs.values())]
        table = ranks(runs, there, n)
        problems = len(next(iter(table.values()))) if table else 0
        print(f"after {n} trials, mean rank over {problems} problems:")
        for name in sorted(there, key=lambda name: statistics.mean(table[name]) if table[name] else math.inf):
            if table[name]:
                print(f"  {statistics.mean(table[name]):6.2f}  {name}")
    if args.plots:
        os.makedirs(args.plots, exist_ok=True)
        for problem, sides in runs.items():
            plot(os.path.join(args.plots, problem.replace(":", "-") + ".svg"), problem, sides, names)


if __name__ == "__main__":
    main()
