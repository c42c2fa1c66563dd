#!/usr/bin/env python3
"""Logistic regression in plain Python, as a trial of `cadre tune`: reports after each epoch, saves, and goes on from what it saved."""
import argparse
import json
import math
import os
import random


class Cadre:
    """The few lines that a program needs: a line of JSON out, a line of text back. Without Cadre it prints its reports."""

    def __init__(self):
        report, control = os.environ.get("CADRE_REPORT_FD"), os.environ.get("CADRE_CONTROL_FD")
        self.out = os.fdopen(int(report), "w", buffering=1) if report else None
        self.answers = os.fdopen(int(control)) if control else None
        self.checkpoints = os.environ.get("CADRE_CHECKPOINT_DIR")

    def report(self, **values):
        if self.out is None:
            print(values)
            return True
        self.out.write(json.dumps(values) + "\n")
        return self.answers.readline().strip() != "stop"

    def save(self, state):
        if self.checkpoints:
            path = os.path.join(self.checkpoints, "state.json")
            with open(path + ".tmp", "w") as file:
                json.dump(state, file)
            os.replace(path + ".tmp", path)

    def load(self):
        path = os.path.join(self.checkpoints or ".", "state.json")
        if self.checkpoints and os.path.exists(path):
            with open(path) as file:
                return json.load(file)
        return None


def make_data(count, seed):
    """Two clouds that overlap."""
    draw = random.Random(seed)
    points = []
    for i in range(count):
        label = i % 2
        points.append(([draw.gauss(2 * label - 1, 1.2), draw.gauss(1 - 2 * label, 1.2), 1.0], label))
    return points


def predict(weights, x):
    return 1 / (1 + math.exp(-max(-30, min(30, sum(w * v for w, v in zip(weights, x))))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--l2", type=float, default=0.0)
    parser.add_argument("--optimizer", choices=["sgd", "momentum"], default="sgd")
    parser.add_argument("--epochs", type=int, default=9)
    options = parser.parse_args()
    cadre, train, test = Cadre(), make_data(400, 1), make_data(200, 2)
    state = cadre.load() or {"epoch": 0, "weights": [0.0] * 3, "velocity": [0.0] * 3}
    while state["epoch"] < options.epochs:
        order = list(range(len(train)))
        random.Random(state["epoch"]).shuffle(order)
        for i in order:
            x, label = train[i]
            error = predict(state["weights"], x) - label
            for k in range(3):
                step = error * x[k] + options.l2 * state["weights"][k]
                state["velocity"][k] = options.momentum * state["velocity"][k] + step
                state["weights"][k] -= options.lr * state["velocity"][k]
        state["epoch"] += 1
        chances = [(predict(state["weights"], x), label) for x, label in test]
        loss = -sum(math.log(max(p if label else 1 - p, 1e-12)) for p, label in chances) / len(test)
        accuracy = sum((p > 0.5) == bool(label) for p, label in chances) / len(test)
        cadre.save(state)
        if not cadre.report(loss=loss, accuracy=accuracy, step=state["epoch"], checkpoint=True):
            break


if __name__ == "__main__":
    main()
