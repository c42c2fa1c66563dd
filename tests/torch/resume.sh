#!/bin/sh
# A run that is disturbed ends with the very bits of the run that was not: resume.sh RESNET_MNIST WORK-FOLDER.
set -u
program=$1
work=$2
. "$(dirname "$0")/data.sh"
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1

make_data # 15 steps an epoch with two workers and a batch of 16

train() { # NAME OPTIONS...: one run, its output in NAME.out
    name=$1
    shift
    "$program" --data data --batch 16 --epochs 2 --storage runs --name "$name" "$@" >>"$name.out" 2>&1
}

newest() { # NAME: the safetensors of its last checkpoint
    find "runs/$1" -name state.safetensors | sort | tail -n 1
}

final_weights() { # NAME: what its ranks have at the end, a line a different answer
    for log in runs/"$1"/trial-*/rank*.log; do
        grep '^weights' "$log" | tail -n 1
    done | sort -u
}

same() { # NAME [OTHER]: did it end where the undisturbed run ended, on both ranks?
    if ! cmp "$(newest "${2:-calm}")" "$(newest "$1")"; then
        fail "$1: another last checkpoint; $(tail -n 3 "$1.out" | tr '\n' ' ')"
        return
    fi
    if [ "$(final_weights "$1")" != "$weights" ]; then
        fail "$1: other weights: $(final_weights "$1" | tr '\n' ' '), expected $weights"
        return
    fi
    echo "fine: $1 ($(grep -c 'starting again' "$1.out") restarts)"
}

train calm || fail "calm: $(tail -n 1 calm.out)"
weights=$(final_weights calm)
[ "$(echo "$weights" | wc -l)" = 1 ] || fail "the two ranks of the undisturbed run differ: $weights"
train again && same again
train saving --every-steps 4 --keep 0 && same saving

# Workers that die at named points. The points count anew in each attempt, so a run gets to its end in several.
for fault in step:5:kill@0 step:7:kill@1 step:20:segv@0 step:9:exit@1 report:2:kill@0 reported:1:kill@0 reported:1:kill@1 \
    collective:200:kill@1 checkpoint_write:15:kill@0 checkpoint_write:40:kill@0 checkpoint_renamed:9:kill@0; do
    name=$(echo "$fault" | tr ':@' '--')
    CADRE_FAULT=$fault train "$name" --every-steps 1 --max-failures 60 && same "$name" || fail "$name: $(tail -n 1 "$name.out")"
done
# Without checkpoints between the epochs, too: the epoch is done again.
CADRE_FAULT=step:16:kill@0 train epochs && same epochs
# Sharded: killed at three points of a step, a third of it apart, so that one of them lies in the gathering of the parameters.
train sharded --sharded || fail "sharded: $(tail -n 1 sharded.out)"
[ "$(final_weights sharded)" = "$weights" ] || fail "sharded: other weights than the run that is not: $(final_weights sharded | tr '\n' ' ')"
for count in 260 263 266; do
    name=sharded-$count
    CADRE_FAULT=collective:$count:kill@1 train "$name" --sharded --every-steps 1 --max-failures 60 && same "$name" sharded ||
        fail "$name: $(tail -n 1 "$name.out")"
done
cat runs/sharded-*/trial-*/rank0.log | grep -q 'all_gather of bucket .* died' || fail "sharded: no worker died while parameters were gathered"
# A worker that always dies is given up, and says what happened.
if CADRE_FAULT=train:1:kill@1 train hopeless --max-failures 1; then
    fail "hopeless: it ended well"
else
    grep -q 'SIGKILL\|signal 9\|Killed' hopeless.out || fail "hopeless: $(tail -n 1 hopeless.out)"
    train hopeless --resume && same hopeless
fi
# The controller dies between the files of a checkpoint and their record, and at its start.
for count in 1 5 9; do
    CADRE_FAULT=record:$count:kill train "record-$count" --every-steps 2
    sleep 0.3
    train "record-$count" --every-steps 2 --resume && same "record-$count" || fail "record-$count: $(tail -n 1 "record-$count.out")"
done

workers_of() { # PID of the controller: its workers, the zygote's children
    for zygote in $(pgrep -P "$1"); do
        pgrep -P "$zygote"
    done
}

steps_of() { # NAME: how many checkpoints it has written by now
    find "runs/$1" -name state.safetensors 2>/dev/null | wc -l
}

disturbed() { # NAME SIGNAL controller|worker STEPS: send the signal once so many steps are saved
    name=$1
    "$program" --data data --batch 16 --epochs 2 --storage runs --name "$name" --every-steps 1 --keep 0 --max-failures 5 >>"$name.out" 2>&1 &
    pid=$!
    while [ "$(steps_of "$name")" -lt "$4" ] && kill -0 $pid 2>/dev/null; do
        sleep 0.02
    done
    if [ "$3" = controller ]; then
        kill "-$2" $pid
    else
        # shellcheck disable=SC2046
        kill "-$2" $(workers_of $pid | shuf -n 1)
    fi
    wait $pid
}

for steps in 3 11 16; do
    disturbed "kill-worker-$steps" KILL worker $steps && same "kill-worker-$steps" || fail "kill-worker-$steps: $(tail -n 1 "$name.out")"
    disturbed "kill-controller-$steps" KILL controller $steps
    train "kill-controller-$steps" --resume && same "kill-controller-$steps" || fail "kill-controller-$steps: $(tail -n 1 "$name.out")"
done
for signal in INT TERM USR1; do
    disturbed "controller-$signal" $signal controller 6
    [ $? = 130 ] || fail "controller-$signal: $(tail -n 1 "controller-$signal.out")" # what a shell says of the interrupted
    grep -q 'stopped; go on' "controller-$signal.out" || fail "controller-$signal: did not stop: $(tail -n 2 "controller-$signal.out")"
    train "controller-$signal" --resume && same "controller-$signal"
done
disturbed worker-USR1 USR1 worker 6
train worker-USR1 --resume && same worker-USR1 || fail "worker-USR1: $(tail -n 1 worker-USR1.out)"
# A finished run that is resumed has nothing to do and harms nothing.
train calm --resume && same calm

[ $failures = 0 ] && rm -rf "$work"
[ $failures = 0 ]
