"""Stores that the tuner and `cadre tune` made, read by Optuna and its dashboard while they grow, then analysed and gone on with from Python.

usage: check_optuna.py OPTUNA_TUNER CADRE DIRECTORY
"""

import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)
tuner, cadre, directory = sys.argv[1:]
modern = not optuna.__version__.startswith("3.")  # Debian's knows an older head of the same tables, and has neither pandas nor dashboard

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 6),
    "units": IntDistribution(8, 1024, log=True),
    "width": IntDistribution(8, 64, step=8),
    "dropout": FloatDistribution(0, 0.5, step=0.125),
    "noise": FloatDistribution(-12, 12),
    "optimizer": CategoricalDistribution(["sgd", "adamw"]),
    "nesterov": CategoricalDistribution([False, True]),
    "momentum": FloatDistribution(0, 0.99),
}


def path(name):
    return os.path.join(directory, name, "cadre.db")


def load(name):
    storage = optuna.storages.RDBStorage("sqlite:///" + path(name), skip_compatibility_check=not modern)
    return optuna.load_study(study_name=name, storage=storage)


def fetch(port, what):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{what}", timeout=10) as answer:
        return json.load(answer)


def watch_live(process, name):
    """The dashboard lists the study, and its trials grow, while the sweep runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "import sys; from optuna_dashboard._cli import main; sys.argv = ['optuna-dashboard'] + sys.argv[1:]; main()"
    dashboard = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, "sqlite:///" + path(name), "--host", "127.0.0.1", "--port", str(port)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = []
    try:
        deadline = time.time() + 120
        while len(set(seen)) < 3:
            assert process.poll() is None and time.time() < deadline, seen
            try:
                studies = fetch(port, "studies")["study_summaries"]
            except OSError:  # it has not come up yet
                time.sleep(0.1)
                continue
            assert [study["study_name"] for study in studies] == [name], studies
            assert studies[0]["directions"] == ["minimize"], studies
            detail = fetch(port, f"studies/{studies[0]['study_id']}?after=0")
            seen.append(len(detail["trials"]))
            time.sleep(0.05)
    finally:
        dashboard.terminate()
        dashboard.wait()
    assert seen == sorted(seen), seen


def recorded(name):
    """Params of each trial as Cadre has them."""
    with sqlite3.connect(f"file:{path(name)}?mode=ro", uri=True) as db:
        try:
            rows = db.execute("SELECT number, name, value_json FROM cadre_params JOIN trials USING (trial_id) ORDER BY number, position").fetchall()
        except sqlite3.OperationalError:  # there are no tables yet
            return {}
    params = {}
    for number, key, value in rows:
        params.setdefault(number, {})[key] = json.loads(value)
    return params


def check(name, count):
    study = load(name)
    trials = study.trials
    own = recorded(name)
    assert [t.number for t in trials] == list(range(count)), len(trials)
    assert all(t.state.is_finished() for t in trials)
    for trial in trials:
        assert trial.params == own[trial.number], (trial.params, own[trial.number])
        assert (trial.state == TrialState.FAIL) == (trial.value is None), trial
        assert trial.datetime_start <= trial.datetime_complete
        if trial.intermediate_values and trial.value is not None:
            assert trial.value == trial.intermediate_values[max(trial.intermediate_values)], trial
    assert study.best_value == min(t.value for t in trials if t.state == TrialState.COMPLETE)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert not modern or study.metric_names == ["loss"]
    return study


def check_space(study):
    states = {t.state for t in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}, states
    for trial in study.trials:
        for key, distribution in trial.distributions.items():
            if key in SPACE:
                # Cadre's upper ends of floats are not drawn, Optuna's may be: the same distribution in Optuna's words
                assert distribution == SPACE[key], (key, distribution)
            else:
                assert key in ("epochs", "data") and distribution.single()
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert trial.params["epochs"] == 6 and trial.params["data"] == "a.csv"
        assert trial.state != TrialState.FAIL or trial.params["width"] >= 48
        if trial.state == TrialState.COMPLETE:
            assert list(trial.intermediate_values) == list(range(1, 7))
        if trial.state == TrialState.PRUNED:
            assert 0 < len(trial.intermediate_values) < 6


def check_analysis(study):
    frame = study.trials_dataframe()
    assert len(frame) == len(study.trials) and set(frame.state) <= {"COMPLETE", "PRUNED", "FAIL"}
    assert all("params_" + key in frame.columns for trial in study.trials for key in trial.params)
    importances = optuna.importance.get_param_importances(study)
    assert math.isclose(sum(importances.values()), 1), importances
    for key in {key for trial in study.trials if trial.state == TrialState.COMPLETE for key in trial.params}:
        assert importances[key] == 0 if key in ("epochs", "data") else importances[key] >= 0, importances


def plain(trials):
    return [(t.number, t.state, t.value, t.params) for t in trials]


def go_on(name, suggest, count):
    """More trials from Python, over the space that Cadre wrote."""
    study = load(name)
    before = study.trials
    study.sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=2, multivariate=True)
    study.pruner = optuna.pruners.NopPruner()
    study.optimize(suggest, n_trials=count)
    after = load(name).trials
    assert len(after) == len(before) + count and all(t.state == TrialState.COMPLETE for t in after[len(before):])
    assert plain(after[:len(before)]) == plain(before)


def go_on_here(name, command, before, count, others):
    """Cadre resumes a study to which Python has added trials: they are results like its own."""
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = load(name).trials
    assert len(after) == len(before) + count and all(t.state.is_finished() for t in after)
    finished = [i for i, t in enumerate(before) if t.state.is_finished()]
    assert plain([after[i] for i in finished]) == plain([before[i] for i in finished])
    assert [t.number for t in after] == list(range(len(after)))
    own = recorded(name)
    assert all(t.params == own.get(t.number, {}) for t in after)
    with sqlite3.connect(f"file:{path(name)}?mode=ro", uri=True) as db:
        assert db.execute("SELECT count(*) FROM cadre_events WHERE kind = 'other'").fetchone() == (others,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def suggest_all(trial):
    values = {}
    for key, distribution in SPACE.items():
        if key == "momentum" and values["optimizer"] != "sgd":
            continue
        values[key] = trial._suggest(key, distribution)
    trial.report(2.0, 1)
    return abs(math.log10(values["lr"]) + 2) + 0.1 * abs(values["layers"] - 3) + 1 / 6


def tuner_store():
    process = subprocess.Popen([tuner, directory, "live", "1000", "30", "new"], stdout=subprocess.DEVNULL)
    while process.poll() is None and not (os.path.exists(path("live")) and len(recorded("live")) > 5):
        time.sleep(0.05)
    if modern:
        watch_live(process, "live")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 0
    count = max(len(load("live").trials), 30) + 10
    subprocess.run([tuner, directory, "live", str(count), "0", "resume"], stdout=subprocess.DEVNULL, check=True)
    study = check("live", count)
    check_space(study)
    if modern:
        check_analysis(study)
    go_on("live", suggest_all, 6)
    study = load("live")
    study.add_trial(optuna.trial.create_trial(params={"lr": 7.0}, distributions={"lr": FloatDistribution(1, 10, log=True)}, value=0.01))
    study.ask()
    before = load("live").trials
    go_on_here("live", [tuner, directory, "live", str(count + 8), "0", "resume"], before, 8, others=8)
    assert load("live").trials[len(before) - 1].state == TrialState.FAIL  # what study.ask() began and nobody ended
    before = load("live").trials
    go_on_here("live", [tuner, directory, "live", str(count + 12), "0", "resume"], before, 4, others=8)


def enqueued_here():
    """What Python enqueued and nobody has run is run by Cadre, first and beyond num_samples; what is no point of the space fails and says so."""
    study = load("command")
    study.enqueue_trial({"x": 0.25, "kind": "b"})
    study.enqueue_trial({"kind": "b"})
    study.enqueue_trial({"x": 7.0})
    study.enqueue_trial({"x": -0.5, "kind": "a"}, user_attrs={"why": "a guess"})
    before = load("command").trials
    assert [t.state for t in before[-4:]] == [TrialState.WAITING] * 4
    subprocess.run([cadre, "resume", "command", "--storage", directory, "--quiet", "-n", "2"], check=True, stderr=subprocess.DEVNULL)
    after = load("command").trials
    assert len(after) == len(before) + 2 and plain(after[:len(before) - 4]) == plain(before[:-4])
    first, second, third, fourth = after[len(before) - 4:len(before)]
    assert first.state == TrialState.COMPLETE and first.params == {"x": 0.25, "kind": "b"} and first.value == 0.25 ** 2 + 1, first
    assert second.params["kind"] == "b" and -2 <= second.params["x"] < 2, second
    assert third.state == TrialState.FAIL and third.params == {}, third
    assert fourth.value == 0.25 and fourth.user_attrs == {"why": "a guess"}, fourth
    assert all(t.datetime_start <= t.datetime_complete for t in (first, second, fourth))
    own = recorded("command")
    assert all(t.params == own[t.number] for t in after if t.params)
    shown = subprocess.run([cadre, "show", "command", "--storage", directory, "--trial", str(third.number)], check=True, capture_output=True, text=True).stdout
    assert "enqueued with params that are none of the space: x: 7 is not in -2 to 2" in shown, shown
    subprocess.run([cadre, "resume", "command", "--storage", directory, "--quiet", "-n", "1"], check=True)  # they are replayed
    assert plain(load("command").trials[:len(after)]) == plain(after)


def command_store():
    subprocess.run([cadre, "tune", "--name", "command", "--storage", directory, "--quiet", "-n", "30", "--metric", "loss", "--min", "--search", "tpe", "--seed", "1",
                    "--", tuner, "--trial", "x~uniform(-2, 2)", "kind~choice(a, b)"], check=True)
    study = check("command", 30)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.FAIL}
    if modern:
        check_analysis(study)
    go_on("command", lambda trial: trial.suggest_float("x", -2, 2) ** 2 + (trial.suggest_categorical("kind", ["a", "b"]) == "b"), 5)
    study = load("command")
    study.enqueue_trial({"x": 0.0, "kind": "a"})
    study.optimize(lambda trial: trial.suggest_float("x", -2, 2) ** 2 + (trial.suggest_categorical("kind", ["a", "b"]) == "b"), n_trials=1)
    go_on_here("command", [cadre, "resume", "command", "--storage", directory, "--quiet", "-n", "5"], load("command").trials, 5, others=6)
    enqueued_here()
    best = subprocess.run([cadre, "best", "command", "--storage", directory], check=True, capture_output=True, text=True).stdout
    assert best.split() == ["--x", "0.0", "--kind", "a"], best


tuner_store()
command_store()
print("optuna", optuna.__version__, "reads, analyses and continues what the tuner made")
