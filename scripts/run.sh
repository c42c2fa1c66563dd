#!/bin/sh
# Install what is missing, build, train a ResNet on Fashion-MNIST with two workers, and search a smaller one's hyperparameters for half a minute.
#
#   scripts/run.sh [OPTIONS OF THE TRAINING]      scripts/run.sh --epochs 3 --workers 4
#
# Nothing is asked. The build goes to build/, both runs to runs/ in the checkout (--storage DIR: elsewhere). Run again, it trains
# anew and takes the search further.
# Needs Debian 12 for installing; elsewhere it builds with what is there.
set -eu
me=run.sh
. "$(dirname "$0")/lib.sh"

program=$root/build/bin/resnet_mnist
tuner=$root/build/bin/tune_resnet_mnist
case ${1:-} in
-h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    [ ! -x "$program" ] || { echo && exec "$program" --help; }
    exit 0
    ;;
esac

# shellcheck disable=SC2086
need $packages_run
choose_blas
if [ -e "$root/build/CMakeCache.txt" ]; then
    build "$root/build" job -- -DCADRE_WITH_TORCH=ON
else
    build "$root/build" job -- -DCMAKE_BUILD_TYPE=Release -DCADRE_WITH_TORCH=ON -DCADRE_TESTS=OFF
fi

storage=$root/runs
[ "$(pwd)" != "$root" ] || storage=runs
trap : INT # the program ends the run in good order and says how to go on
status=0
"$program" --storage "$storage" "$@" || status=$?
[ "$status" = 0 ] || exit "$status"

# What the search and the commands that show it all have to know of the options.
name=resnet-mnist
data=''
quiet=''
before=''
for word in "$@"; do
    case $before:$word in
    --name:*) name=$word ;;
    --storage:*) storage=$word ;;
    --data:*) data=$word ;;
    *:--quiet) quiet=--quiet ;;
    *:--data=*) data=${word#*=} ;;
    *:--name=*) name=${word#*=} ;;
    *:--storage=*) storage=${word#*=} ;;
    esac
    before=$word
done
cadre=$root/build/bin/cadre
[ "$(pwd)" != "$root" ] || cadre=build/bin/cadre
place=" --storage $storage"
[ "$storage" != runs ] || place=''

# Eight trials of at most three epochs each; on top of those that an earlier run has made.
trials=8
sweep=tune-resnet
set -- --name "$sweep" --storage "$storage" --epochs 3
[ -z "$data" ] || set -- "$@" --data "$data"
[ -z "$quiet" ] || set -- "$@" "$quiet"
if had=$("$cadre" export "$sweep" --storage "$storage" 2>/dev/null | sed 1d | wc -l) && [ "$had" -gt 0 ]; then
    trials=$((trials + had))
    set -- "$@" --resume
    [ -n "$quiet" ] || say "and the search goes on: after $had trials, up to $trials"
else
    [ -n "$quiet" ] || say "and now a search: $trials trials on a part of the images, the poor ones stopped early"
fi
"$tuner" --trials "$trials" "$@" || status=$?
if [ "$status" = 130 ]; then
    [ "$trials" != 8 ] || set -- "$@" --resume
    say "stopped; run this again, or only the search: $tuner --trials $trials $*"
    exit 130
fi
[ "$status" = 0 ] || [ "$trials" = 8 ] || fail "the search could not go on; to begin it anew: $cadre rm $sweep$place"
[ "$status" = 0 ] || exit "$status"

# As they can be typed here.
say "$cadre show $name$place        the training"
say "$cadre show $sweep$place         the search"
say "$cadre best $sweep$place         its best config, as options"
