#!/bin/sh
# Prints, one a line, the Python interpreters that have Optuna: one with Optuna 5 from PyPI, in a virtual environment kept under the
# directory given, and Debian's (python3-optuna, 3.1.0) where it is installed. Says on stderr what cannot be had.
#
# usage: optuna_env.sh DIRECTORY
set -u
version=5.0.0
pandas=2.2.3 # for trials_dataframe
dashboard=0.21.0
venv=$1/optuna-$version
if ! "$venv/bin/python" -c 'import optuna, pandas, optuna_dashboard' 2>/dev/null; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2 && "$venv/bin/pip" install --quiet --disable-pip-version-check "optuna==$version" "pandas==$pandas" \
        "optuna-dashboard==$dashboard" >&2 ||
        rm -rf "$venv"
fi
if "$venv/bin/python" -c 'import optuna' 2>/dev/null; then
    echo "$venv/bin/python"
else
    echo "optuna $version cannot be installed (python3-venv and the package index are needed): not tested against" >&2
fi
if /usr/bin/python3 -c 'import optuna' 2>/dev/null; then
    echo /usr/bin/python3
else
    echo "Debian's python3-optuna is not installed: not tested against" >&2
fi
