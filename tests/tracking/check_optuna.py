"""Reads a store with Optuna: live beside its writer, then closed, then going on with the study.

usage: check_optuna.py WRITER STORE. The writer (optuna_writer.c) says "ready" once its trials are committed, goes on
reporting in trial 5 until its standard input ends, then finishes that trial and closes.
"""

import math
import subprocess
import sys
import time

import optuna

try:
    import pandas
except ImportError:  # Debian's Optuna does without
    pandas = None
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)
writer, path = sys.argv[1:]
modern = not optuna.__version__.startswith("3.")


def storage():
    # 3.1 knows an older head of the same tables.
    return optuna.storages.RDBStorage("sqlite:///" + path, skip_compatibility_check=not modern)


def check_finished(study):
    trials = study.trials
    assert [t.state for t in trials[:5]] == [
        TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE], trials
    assert [t.number for t in trials] == list(range(len(trials)))
    first, second, pruned, failed, infinite = trials[:5]
    assert first.value == 0.5 and second.value == 0.25 and pruned.value == 0.75 and infinite.value == math.inf
    assert failed.value is None and math.isnan(failed.intermediate_values[2])
    assert first.params == {"lr": 0.05, "layers": 3, "optimizer": "adam", "batch": 32, "decay": 1e-4, "data": "a.csv"}, first.params
    assert not modern or list(first.params) == ["lr", "layers", "optimizer", "batch", "decay", "data"]
    assert second.params["batch"] == 64 and second.params["data"] == "b.csv"
    assert first.distributions["lr"] == optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)
    assert first.distributions["layers"] == optuna.distributions.IntDistribution(1, 4)
    assert first.distributions["batch"].single() and first.distributions["data"].single()
    assert first.intermediate_values == {1: 1.0, 2: 0.75, 3: 0.5}, first.intermediate_values
    assert infinite.system_attrs["failed_trial"] == 3 and infinite.system_attrs["retry_history"] == [3]
    assert first.datetime_start <= first.datetime_complete
    assert abs(first.datetime_start.timestamp() - time.time()) < 86400
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert not modern or study.best_trial.number == 1  # 3.1.0 orders infinities wrongly, in its own files too
    if modern:
        assert study.metric_names == ["loss"]
    if pandas:
        frame = study.trials_dataframe()
        assert len(frame) == len(trials) and "params_batch" in frame.columns, frame


def main():
    process = subprocess.Popen([writer, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    study = optuna.load_study(study_name="optuna", storage=storage())
    check_finished(study)
    seen = []
    deadline = time.time() + 30
    while len(set(seen)) < 5:  # the same study object sees the running trial grow
        trial = study.get_trials(deepcopy=False)[5]
        assert trial.state == TrialState.RUNNING
        seen.append(len(trial.intermediate_values))
        assert time.time() < deadline, seen
        time.sleep(0.02)
        fresh = optuna.load_study(study_name="optuna", storage=storage())
        assert len(fresh.trials_dataframe() if pandas else fresh.trials) == 6
    assert seen == sorted(seen)
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert study.trials[5].state == TrialState.COMPLETE
    del study

    study = optuna.load_study(study_name="optuna", storage=storage())
    check_finished(study)

    def objective(trial):  # the writer's own search space, and a constant of it now searched
        lr = trial.suggest_float("lr", 1e-4, 0.1, log=True)
        layers = trial.suggest_int("layers", 1, 4)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
        trial.suggest_int("batch", 16, 128)
        trial.suggest_float("decay", 0, 0.1)
        trial.report(lr, 1)
        return 1 + lr * layers

    study.sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=2)
    study.optimize(objective, n_trials=4)
    assert len(study.trials) == 10 and study.trials[9].state == TrialState.COMPLETE
    check_finished(optuna.load_study(study_name="optuna", storage=storage()))
    # and the writer can go on where Python stopped
    assert subprocess.run([writer, path, "again"]).returncode == 0
    assert optuna.load_study(study_name="optuna", storage=storage()).trials[10].state == TrialState.COMPLETE
    print("optuna", optuna.__version__, "reads and continues the store")


main()
