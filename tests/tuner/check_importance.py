"""Importance as `cadre show --json` has it, against Optuna's evaluators on the same studies: random trials of a known function.

usage: check_importance.py CADRE DIRECTORY
"""

import json
import os
import subprocess
import sys

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

try:
    from optuna.importance import PedAnovaImportanceEvaluator
except ImportError:
    PedAnovaImportanceEvaluator = None  # before Optuna 3.6

optuna.logging.set_verbosity(optuna.logging.ERROR)
cadre, directory = sys.argv[1:]
SCRIPT = """
value=$(awk -v lr="$1" -v opt="$2" -v depth="$3" 'BEGIN { a = log(lr) / log(10) + 2; d = depth - 4; print a * a + (opt != "adamw") + 0.05 * (d < 0 ? -d : d) }')
[ "$5" = max ] && value=-$value
"$CADRE" report "loss=$value"
"""


def tune(name, mode, trials):
    command = ["sh", "-c", SCRIPT, "trial", "lr~loguniform(1e-5, 1)", "opt~choice(sgd, adamw, rms)", "depth~randint(1, 9)", "noise~uniform(0, 1)", mode]
    subprocess.run([cadre, "tune", "--name", name, "--storage", directory, "--quiet", "-n", str(trials), "--metric", "loss", "--" + mode,
                    "-j", "2", "--seed", "4", "--search", "random", "--"] + command, check=True, env=dict(os.environ, CADRE=cadre))
    return optuna.load_study(study_name=name, storage=optuna.storages.RDBStorage(
        "sqlite:///" + os.path.join(directory, name, "cadre.db"), skip_compatibility_check=optuna.__version__.startswith("3.")))


def ours(name):
    shown = subprocess.run([cadre, "show", name, "--json", "--storage", directory], check=True, capture_output=True, text=True).stdout
    return json.loads(shown)["importance"]


for name, mode in (("least", "min"), ("most", "max")):
    theirs = tune(name, mode, 150)
    found = ours(name)
    scores = {p["name"]: p["importance"] for p in found["params"]}
    assert found["verdict"] == "found" and found["best_trials"] == 15, found
    assert set(scores) == {"lr", "opt", "depth", "noise"}, scores
    assert abs(sum(scores.values()) - 1) < 1e-9, scores
    assert found["why"].startswith("trial ") and "lr = " in found["why"], found["why"]
    if PedAnovaImportanceEvaluator:
        # Numbers alone, for Optuna smooths choices by how many different ones it sees: 15 of 15 with one choice are six in ten to it.
        reference = get_param_importances(theirs, evaluator=PedAnovaImportanceEvaluator())
        numbers = [key for key in scores if key != "opt"]
        for key in numbers:
            share, theirs_share = (s[key] / sum(s[k] for k in numbers) for s in (scores, reference))
            assert abs(share - theirs_share) < 0.12, (key, scores, reference)
    try:
        forest = get_param_importances(theirs, evaluator=FanovaImportanceEvaluator(seed=1))
    except ImportError:
        continue  # without scikit-learn
    assert max(forest, key=forest.get) in ("lr", "opt") and {"lr", "opt"} == set(sorted(scores, key=scores.get)[2:]), (scores, forest)
tune("few", "min", 5)
assert ours("few")["verdict"] == "too few trials" and ours("few")["why"] is None, ours("few")
shown = subprocess.run([cadre, "show", "few", "--storage", directory], check=True, capture_output=True, text=True).stdout
assert "importance: too few trials with a value to tell: 5, and it takes 10" in shown, shown
print("importance agrees with Optuna " + optuna.__version__)
