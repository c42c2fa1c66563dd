#!/bin/sh
# Run a script in a Python that has PyTorch: with_torch.sh SCRIPT ARGUMENTS. Exits 77 (the tests' "skip") when there is none.
for python in "${CADRE_TORCH_PYTHON:-python3}" /usr/bin/python3; do
    if "$python" -c 'import torch.distributed' >/dev/null 2>&1; then
        exec "$python" "$@"
    fi
done
echo "skipped: no python3 here has PyTorch (apt-get install python3-torch)" >&2
exit 77
