#!/usr/bin/python3
"""Training steps of Cadre and of PyTorch DDP, side by side.

    python3 bench/train/train.py --build BUILD              all of it
    python3 bench/train/train.py --build BUILD resnet8      ResNet-8 against PyTorch DDP
    python3 bench/train/train.py --build BUILD resnet18     ResNet-18 against PyTorch DDP
    python3 bench/train/train.py --build BUILD scaling      two workers against two uncoupled processes
    python3 bench/train/train.py --build BUILD overlap      ResNet-18: the part of a step in which a rank does nothing but exchange gradients
    python3 bench/train/train.py --build BUILD start        from main to the first training step
    python3 bench/train/train.py --build BUILD accuracy     defaults against float32: Fashion-MNIST after --epochs epochs

The programs that are compared run at the same time and work in turn: while one makes its steps the others wait. What is printed is the median
over the rounds and the ratio of the medians, and beside it the ratio by rank 0's processor time, which other work on the machine disturbs less. PyTorch's process is this Python, which needs torch (Debian: python3-torch).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


class Program:
    """One program that makes steps when it is told to."""

    def __init__(self, name, command, depth, batch, workers, layout, dtype):
        self.name, self.images, self.cpu_rates, self.waits = name, batch * workers, [], []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-train-"))
        os.mkfifo(self.folder / "go")
        os.mkfifo(self.folder / "took")
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        self.process = subprocess.Popen(
            command + [str(self.folder), str(depth), str(batch), str(workers), layout, dtype], env=environment)
        self.took, self.go = open(self.folder / "took"), open(self.folder / "go", "w")
        self.start = [float(x) for x in self.took.readline().split()]

    def begin(self, steps):
        self.steps = steps
        print(steps, file=self.go, flush=True)

    def rate(self):
        """Images a second of the steps that were begun; also keeps those a second of processor time."""
        wall, cpu, *times = map(float, self.took.readline().split())
        self.cpu_rates.append(self.images * self.steps / cpu)
        self.waits.append([(waited / wall, late / wall) for waited, late in zip(*[iter(times)] * 2)])
        return self.images * self.steps / wall

    def end(self):
        print(0, file=self.go, flush=True)
        self.process.wait()
        shutil.rmtree(self.folder)


def ours(options):
    return [str(options.build / "bench" / "bench_train")]


def theirs():
    return [sys.executable, str(HERE / "ddp.py")]


def in_turn(groups, steps, rounds, pause=0):
    """Each group is a list of programs that work at the same time; returns each group's rates, those of its programs added up."""
    rates = [[] for _ in groups]
    for round_number in range(rounds + 1):
        for index, group in enumerate(groups):
            time.sleep(pause)
            for program in group:
                program.begin(steps)
            rate = sum(program.rate() for program in group)
            if round_number > 0:  # the first warms up
                rates[index].append(rate)
    for group in groups:
        for program in group:
            program.end()
    return rates


def row(results, name, groups, rates, bar):
    a, b = (group[0].name for group in groups)
    first, second = statistics.median(rates[0]), statistics.median(rates[1])
    pairs = sorted(x / y for x, y in zip(*rates))
    ratio = first / second
    cpu = statistics.median(groups[0][0].cpu_rates[1:]) / statistics.median(groups[1][0].cpu_rates[1:]) * groups[1][0].images / groups[0][0].images
    verdict = "" if bar is None else f"  bar {bar:.2f}: {'met' if ratio >= bar else 'MISSED'}"
    print(f"{name:34} {a} {first:8.1f}  {b} {second:8.1f} images/s  ratio {ratio:.3f} "
          f"(rounds {pairs[0]:.3f} to {pairs[-1]:.3f}; by processor time {cpu:.3f}){verdict}", flush=True)
    results.append({"name": name, a: rates[0], b: rates[1], "ratio": ratio, "cpu_ratio": cpu, "bar": bar})


def against_torch(options, results, depth):
    steps = options.steps or (20 if depth == 8 else 1)
    bars = {8: (1.25, 1.05), 18: (1.03, 1.05)}[depth]
    cases = [("float32 contiguous", "contiguous", "float32", "contiguous", "float32", bars[0]),
             ("bfloat16 channels last", "channels_last", "bfloat16", "channels_last", "bfloat16", bars[1]),
             ("defaults against float32", "default", "default", "contiguous", "float32", 1.8)]
    for name, layout, dtype, their_layout, their_dtype, bar in cases:
        if options.only and options.only not in name:
            continue
        few = max(1, steps // 4) if dtype == "bfloat16" else steps
        groups = [[Program("cadre", ours(options), depth, options.batch, 2, layout, dtype)],
                  [Program("ddp", theirs(), depth, options.batch, 2, their_layout, their_dtype)]]
        row(results, f"ResNet-{depth} {name}", groups, in_turn(groups, few, options.rounds), bar)


def scaling(options, results):
    for depth, steps in ((8, 20), (18, 1)):
        steps = options.steps or steps
        two = Program("coupled", ours(options), depth, options.batch, 2, "default", "default")
        alone = [Program("uncoupled", ours(options), depth, options.batch, 1, "default", "default") for i in range(2)]
        row(results, f"ResNet-{depth} two workers", [[two], alone], in_turn([[two], alone], steps, options.rounds), 0.97)


def overlap(options, results):
    for layout, dtype in (("default", "default"), ("contiguous", "float32")):
        name = f"ResNet-18 {'defaults' if dtype == 'default' else dtype}"
        if options.only and options.only not in name:
            continue
        program = Program("cadre", ours(options), 18, options.batch, 2, layout, dtype)
        rates = in_turn([[program]], options.steps or 1, options.rounds, options.pause)[0]
        step = program.images / statistics.median(rates)
        worst = 0
        for rank, rounds in enumerate(zip(*program.waits[1:])):
            waited, late = (statistics.median(x[i] for x in rounds) for i in range(2))
            exchange = statistics.median(x[0] - x[1] for x in rounds)
            worst = max(worst, waited)
            print(f"{name:34} rank {rank}: step {1000 * step:.1f} ms, not hidden {100 * waited:.2f} % of it (rounds {100 * min(x[0] for x in rounds):.2f} "
                  f"to {100 * max(x[0] for x in rounds):.2f}): for the other rank {100 * late:.2f} %, exchange {100 * exchange:.2f} %", flush=True)
        mean = statistics.median(statistics.mean(x[0] for x in ranks) for ranks in program.waits[1:])
        print(f"{name:34} mean of both ranks {100 * mean:.2f} %, the worse one {100 * worst:.2f} %  bar 2.00 % (the higher figure): "
              f"{'met' if max(mean, worst) <= 0.02 else 'MISSED'}", flush=True)
        results.append({"name": f"{name} overlap", "step_s": step, "rounds": program.waits[1:], "mean": mean, "worst": worst, "bar": 0.02})


def start(options, results):
    for depth in (8, 18):
        times = []
        for _ in range(options.rounds):
            program = Program("start", ours(options), depth, options.batch, 2, "default", "default")
            times.append(program.start)
            program.end()
        ready, first = (statistics.median(x[i] for x in times) for i in range(2))
        print(f"ResNet-{depth} start{'':20} main to the first step {ready:.3f} s, to its end {first:.3f} s  bar 1.50: "
              f"{'met' if ready <= 1.5 else 'MISSED'}", flush=True)
        results.append({"name": f"ResNet-{depth} start", "ready_s": ready, "first_step_s": first, "bar": 1.5})


def accuracy(options, results):
    folder = tempfile.mkdtemp(prefix="bench-train-")
    found = {}
    for name, extra in (("defaults", []), ("float32 contiguous", ["--dtype", "float32", "--contiguous"])):
        command = [str(options.build / "bin" / "resnet_mnist"), "--storage", folder, "--name", name.replace(" ", "-"),
                   "--epochs", str(options.epochs)] + extra
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = float(re.search(r"test accuracy ([0-9.]+) %", text).group(1))
    shutil.rmtree(folder)
    apart = abs(found["defaults"] - found["float32 contiguous"])
    print(f"accuracy after {options.epochs} epochs: defaults {found['defaults']:.2f} %, float32 contiguous "
          f"{found['float32 contiguous']:.2f} %: {apart:.2f} points apart  bar 0.50: {'met' if apart <= 0.5 else 'MISSED'}", flush=True)
    results.append({"name": "accuracy", **found, "apart": apart, "bar": 0.5})


PARTS = {
    "resnet8": lambda options, results: against_torch(options, results, 8),
    "resnet18": lambda options, results: against_torch(options, results, 18),
    "scaling": scaling,
    "overlap": overlap,
    "start": start,
    "accuracy": accuracy,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; all without any")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help="build folder, with the target `bench` built")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=0, help="in a round; 0: as many as suit the model")
    parser.add_argument("--pause", type=float, default=0, help="of `overlap`: seconds before a round, so that under chrt the kernel's limit for the "
                        "real-time class (95 %% of a second) does not stop one rank for 50 ms")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5, help="of `accuracy`")
    parser.add_argument("--only", help="only the comparisons that have this in their name")
    parser.add_argument("--json", type=pathlib.Path, help="write all measurements there")
    options = parser.parse_args()
    results = []
    for part in options.parts or PARTS:
        PARTS[part](options, results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


main()
