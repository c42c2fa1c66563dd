#!/bin/sh
# Logical workers: every byte of the last checkpoint is the same whatever number of processes made it, interrupted or not, and when the number
# changes on the way: logical.sh RESNET_MNIST WORK-FOLDER.
set -u
program=$1
work=$2
. "$(dirname "$0")/data.sh"
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1

make_data

train() { # NAME OPTIONS...: four logical workers, 7 steps an epoch, bfloat16 and its rounding included where the processor has it
    name=$1
    shift
    "$program" --data data --batch 16 --epochs 2 --logical-workers 4 --storage runs --name "$name" "$@" >>"$name.out" 2>&1
}

newest() { # NAME: the safetensors of its last checkpoint
    find "runs/$1" -name state.safetensors | sort | tail -n 1
}

same() { # NAME: the bytes of the run of one process?
    if cmp "$(newest one)" "$(newest "$1")"; then
        echo "fine: $1"
    else
        fail "$1: other bytes; $(tail -n 3 "$1.out" | tr '\n' ' ')"
    fi
}

train one --workers 1 || fail "one: $(tail -n 1 one.out)"
for workers in 2 4; do
    train "w$workers" --workers $workers && same "w$workers" || fail "w$workers: $(tail -n 1 "w$workers.out")"
done
CADRE_FAULT=step:5:kill@1 train killed --workers 2 --every-steps 2 --max-failures 9 && same killed || fail "killed: $(tail -n 1 killed.out)"
# Each number of processes goes on from what another one left, in the middle of an epoch.
CADRE_FAULT=step:5:kill@0 train handed --workers 4 --every-steps 1 --max-failures 0 && fail "handed: it was not killed"
CADRE_FAULT=step:4:kill@0 train handed --workers 1 --every-steps 1 --max-failures 0 --resume && fail "handed: it was not killed again"
train handed --workers 2 --every-steps 1 --resume && same handed || fail "handed: $(tail -n 1 handed.out)"
if train three --workers 3; then
    fail "three: four logical workers cannot be shared by three processes"
else
    grep -q 'logical_workers is 4: give 3 (num_workers) times a power of two' three.out || fail "three: $(tail -n 1 three.out)"
fi

[ $failures = 0 ] && rm -rf "$work"
[ $failures = 0 ]
