#!/bin/sh
# Make the Python environment that tests compare with: python_env.sh FOLDER. Prints its interpreter; exits 77 (the tests' "skip")
# when it cannot be made, saying why. Pinned, so that a new release does not change what is tested.
set -u
folder=$1
python=$folder/bin/python
pins="safetensors==0.5.3 numpy==1.26.4"

if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    if ! python3 -m venv "$folder" >"$folder.log" 2>&1; then
        echo "skipped: python3 -m venv does not work (apt-get install python3-venv)" >&2
        exit 77
    fi
    # shellcheck disable=SC2086
    if ! "$python" -m pip install --disable-pip-version-check --only-binary :all: $pins >>"$folder.log" 2>&1; then
        echo "skipped: pip cannot install $pins: $(tail -n 1 "$folder.log")" >&2
        exit 77
    fi
    echo "$pins" >"$folder/ready"
fi
echo "$python"
