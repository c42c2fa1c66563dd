#!/bin/sh
# On two hosts (two_hosts.sh), with Open MPI's mpirun, a rank is killed in the middle of all-reduces, or stopped. When one is stopped, the
# others all say whom they miss. When one is killed, the one beside it does; on the other host Open MPI itself may abort the ranks that were
# connected to it, and mpirun ends the rest. The job ends, and no process and nothing in /dev/shm is left.
#
#   strike_hosts.sh TEST_COLLECTIVES_HIER
#
# Exit code 77 when this is not possible here.
set -eu
[ $# = 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
[ "$(id -u)" = 0 ] || { echo "strike hosts: left out: this is not root" >&2; exit 77; }

# A /dev/shm of its own, so that what is in it is ours.
if [ -z "${STRIKE_HOSTS_INSIDE-}" ]; then
    unshare --mount true 2>/dev/null || { echo "strike hosts: left out: no mount namespace" >&2; exit 77; }
    STRIKE_HOSTS_INSIDE=1 exec unshare --mount sh "$0" "$@"
fi
mount -t tmpfs tmpfs /dev/shm
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

for strike in 'kill 3' 'stop 0'; do
    action=${strike% *} victim=${strike#* }
    : >"$work/told"
    code=0
    timeout -k 5 100 sh "$here/two_hosts.sh" "$1" strike $action $victim "$work/told" >"$work/log" 2>&1 || code=$?
    [ $code != 77 ] || { cat "$work/log" >&2; exit 77; }
    told=$(grep -c "rank $victim" "$work/told" || :)
    left=$(pgrep -f "strike $action $victim $work/told" | wc -l)
    files=$(find /dev/shm -name 'cadre-comm-*' | wc -l)
    least=3
    [ $action = stop ] || least=1
    if [ $code = 0 ] || [ $code = 124 ] || [ "$told" -lt $least ] || [ "$left" != 0 ] || [ "$files" != 0 ]; then
        echo "$action of rank $victim: exit code $code, named by $told, $left processes and $files files left" >&2
        cat "$work/told" "$work/log" >&2
        failed=1
    fi
done
exit $failed
