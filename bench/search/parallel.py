#!/usr/bin/env python3
"""What trials at once cost: parallel.py results.csv [more.csv ...] [--at 50 100] [--of 8]

For every searcher that the files have both one by one ("cadre-auto") and with several trials at once ("cadre-auto-8"): the share of what it gains over random
search one by one, by medians of the regret over seeds, that it does not gain then; for each problem, and their mean, median and largest.
"""

import argparse
import statistics

from ranks import median, read


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--at", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--of", type=int, default=8)
    args = parser.parse_args()
    runs = read(args.files, None)
    names = sorted({name for sides in runs.values() for name in sides if f"{name}-{args.of}" in sides})
    for name in names:
        for n in args.at:
            lost = {}
            for problem, sides in runs.items():
                three = [median(sides.get(side, []), n) for side in ("cadre-random", name, f"{name}-{args.of}")]
                if None not in three and three[0] > three[1]:
                    lost[problem] = (three[2] - three[1]) / (three[0] - three[1])
            if not lost:
                continue
            shares = list(lost.values())
            print(f"{name} at {n}: lost {statistics.mean(shares):.3f} on average, {statistics.median(shares):.3f} in the middle, {max(shares):.3f} at most")
            print("    " + ", ".join(f"{problem} {share:.2f}" for problem, share in lost.items()))


if __name__ == "__main__":
    main()
