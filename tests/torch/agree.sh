#!/bin/sh
# All ranks end with the same parameters, whatever carries the gradients, and so do two runs of one seed:
# agree.sh RESNET_MNIST WORK-FOLDER MPIEXEC ("" without MPI).
set -u
program=$1
work=$2
mpiexec=$3
. "$(dirname "$0")/data.sh"
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
make_data
options="--data data --batch 16 --epochs 1 --storage runs"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1

collect() { # NAME WORLD OUTPUT...: all ranks must have said the same; the first run of a world sets what the others must say
    name=$1
    world=$2
    shift 2
    hashes=$(sed -n 's/.*weights \([0-9a-f]\{16\}\)$/\1/p' "$@")
    [ "$(echo "$hashes" | grep -c .)" = "$world" ] || fail "$name: $world ranks, but weights of $(echo "$hashes" | grep -c .): $(tail -n 1 "$name.out")"
    [ "$(echo "$hashes" | sort -u | grep -c .)" = 1 ] || fail "$name: the ranks differ: $(echo "$hashes" | tr '\n' ' ')"
    hash=$(echo "$hashes" | head -n 1)
    if [ ! -e "expected-$world" ]; then
        echo "$hash" >"expected-$world"
    elif [ "$hash" != "$(cat "expected-$world")" ]; then
        fail "$name: weights $hash, not $(cat "expected-$world") as the first run of $world workers had"
    fi
    echo "$name: $hash"
}

run() { # NAME WORLD OPTIONS...: by a launcher of ours
    name=$1
    world=$2
    shift 2
    # shellcheck disable=SC2086
    "$program" $options --name "$name" --workers "$world" "$@" >"$name.out" 2>&1 || fail "$name: $(tail -n 1 "$name.out")"
    collect "$name" "$world" runs/"$name"/trial-*/rank*.log
}

attached() { # NAME WORLD OPTIONS...: as ranks of an mpirun
    name=$1
    world=$2
    shift 2
    # shellcheck disable=SC2086
    "$mpiexec" -np "$world" --oversubscribe --bind-to none "$program" $options --name "$name" "$@" >"$name.out" 2>&1 ||
        fail "$name: $(tail -n 1 "$name.out")"
    collect "$name" "$world" "$name.out"
}

run self-1 1
run self-1-again 1
for world in 2 3 4; do
    run shm-$world $world
    [ -z "$mpiexec" ] || attached mpi-$world $world --backend mpi
done
run shm-2-again 2
if [ -n "$mpiexec" ]; then
    run mpirun-2 2 --launcher mpirun --backend mpi
    attached attached-shm-2 2 --backend shm
    attached attached-best-2 2
fi
two_hosts() { # NAME OPTIONS...: as ranks of an mpirun on two hosts, both this one, with two ranks each
    name=$1
    shift
    # shellcheck disable=SC2086
    "$mpiexec" --oversubscribe --bind-to none -np 2 -x CADRE_HOST_ID=a "$program" $options --name "$name" --backend hier "$@" \
        : -np 2 -x CADRE_HOST_ID=b "$program" $options --name "$name" --backend hier "$@" >"$name.out" 2>&1 || fail "$name: $(tail -n 1 "$name.out")"
    collect "$name" 4 "$name.out"
}

# A sharded optimiser takes no other steps, nor do ranks on several hosts.
run sharded-2 2 --sharded
run sharded-3 3 --sharded
[ -z "$mpiexec" ] || two_hosts hier-4
# bfloat16 on the wire: other bits, but the same ones whatever carries them.
plain=$(cat expected-2)
rm expected-2 expected-4
run wire-shm-2 2 --wire bfloat16
[ "$(cat expected-2)" != "$plain" ] || fail "wire: the bits of a run without it"
run wire-sharded-2 2 --wire bfloat16 --sharded
if [ -n "$mpiexec" ]; then
    attached wire-mpi-2 2 --wire bfloat16 --backend mpi
    run wire-shm-4 4 --wire bfloat16
    two_hosts wire-hier-4 --wire bfloat16
fi
# Without a GPU that is said, in words; the variable stands in for a machine that has one.
if CADRE_CUDART=/nowhere/libcudart.so "$program" $options --name gpu --workers 2 --device cuda --max-failures 0 >gpu.out 2>&1; then
    fail "gpu: it should not have run"
fi
grep -q 'no backend works here: nccl: rank [01]: /nowhere/libcudart.so: cannot open' gpu.out || fail "gpu: $(tail -n 1 gpu.out)"
[ $failures = 0 ] && rm -rf "$work"
[ $failures = 0 ]
