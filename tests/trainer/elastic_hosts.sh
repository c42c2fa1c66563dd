#!/bin/sh
# An elastic run over two hosts that this machine plays: four ranks lose one, two go on and lose one, four come to the end; each sample of each epoch has
# been trained on once. elastic_hosts.sh TWO_HOSTS.SH TRAINER_JOB; exit code 77 where there are no two hosts to be had.
set -eu
two_hosts=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
job="$2 name=hosts storage=$work/runs out=$work/out workers=4 least=2 failures=4 every=1 act=cover"

lives() { # RANKS-PER-HOST WORDS...: the run must be lost
    ranks=$1
    shift
    code=0
    sh "$two_hosts" -n "$ranks" $job "$@" >"$work/log" 2>&1 || code=$?
    [ $code -ne 77 ] || { cat "$work/log"; exit 77; }
    [ $code -ne 0 ] || { echo "it was to lose a rank:"; cat "$work/log"; exit 1; }
}

lives 2 act_step=5 act_rank=3 act_attempt=0
lives 1 act_step=30 act_rank=1 act_attempt=1
sh "$two_hosts" -n 2 $job >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
grep -q '^reports 3$' "$work/out" || { cat "$work/out" "$work/log"; exit 1; }
grep -q '^metric-least 0x1.8p+1$' "$work/out" && grep -q '^metric-most 0x1.8p+1$' "$work/out" || { echo "samples were lost or doubled:"; cat "$work/out"; exit 1; }
[ "$(grep -c '"report":' "$work/runs/hosts/trial-00000/result.json")" = 3 ]
