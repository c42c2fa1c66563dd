#!/bin/sh
# All-reduce beside MPI_Allreduce, Gloo and the bare loop: two ranks, four ranks, and four ranks on two hosts (network namespaces; needs
# root). Builds what it needs, prints ratios of medians and whether they are what they should be, and draws them.
#
#   bench/collectives/run.sh [-s SECONDS-PER-SIZE] [-o RESULTS-FOLDER] [two] [four] [hosts]       (default: all three)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=3
results=$root/build/bench/collectives
while getopts s:o: option; do
    case $option in
    s) seconds=$OPTARG ;;
    o) results=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- two four hosts

[ -e "$root/build/CMakeCache.txt" ] || cmake -G Ninja -S "$root" -B "$root/build" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$root/build" --target bench_allreduce >/dev/null
mkdir -p "$results"
bench=$root/build/bench/bench_allreduce
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

{
    date -u '+%Y-%m-%d'
    uname -sm
    sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sort | uniq -c
    mpirun --version | head -n 1
    cut -d ' ' -f 1-3 /proc/loadavg | sed 's/^/load at the start: /'
} >"$results/machine.txt"

for part; do
    case $part in
    two) # a core each, as Open MPI has it by itself; ranks that spin on the same core would make it look worse than it is
        mpirun -np 2 --bind-to core "$bench" --json --seconds "$seconds" --gloo "$here/gloo_rank.py" ;;
    four) # where there are fewer cores, Open MPI's ranks have to be told to take turns
        mpirun -np 4 --bind-to none --oversubscribe --mca mpi_yield_when_idle 1 "$bench" --json --seconds "$seconds" \
            4096 65536 1048576 4000000 16000000 44000000 ;;
    hosts) sh "$root/tests/collectives/two_hosts.sh" "$bench" --json --seconds "$seconds" \
        4096 16384 65536 262144 1048576 4000000 16000000 44000000 || [ $? = 77 ] ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac >"$results/$part.jsonl"
done
python3 "$here/report.py" "$results" "$@"
