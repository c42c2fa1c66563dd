#!/bin/sh
# Install what is missing, build, and train a ResNet on Fashion-MNIST with two workers.
#
#   scripts/run.sh [OPTIONS OF THE EXAMPLE]      scripts/run.sh --epochs 3 --workers 4
#
# Nothing is asked. The build goes to build/, the run to runs/ in the checkout (--storage DIR: elsewhere).
# Needs Debian 12 for installing; elsewhere it builds with what is there.
set -eu
me=run.sh
. "$(dirname "$0")/lib.sh"

program=$root/build/bin/resnet_mnist
case ${1:-} in
-h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
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

# The command that shows it, as it can be typed here.
name=resnet-mnist
before=''
for word in "$@"; do
    case $before:$word in
    --name:*) name=$word ;;
    --storage:*) storage=$word ;;
    *:--name=*) name=${word#*=} ;;
    *:--storage=*) storage=${word#*=} ;;
    esac
    before=$word
done
cadre=$root/build/bin/cadre
[ "$(pwd)" != "$root" ] || cadre=build/bin/cadre
[ "$storage" = runs ] && say "$cadre show $name" || say "$cadre show $name --storage $storage"
