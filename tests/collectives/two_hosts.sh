#!/bin/sh
# Run a program by mpirun on two hosts that this machine plays: two network namespaces, joined by a virtual link, each with a host name and
# half of the cores of its own. Both are gone afterwards, however it ends. Needs root, iproute2, util-linux and Open MPI.
#
#   two_hosts.sh [-n RANKS-PER-HOST] [-x "MPIRUN OPTIONS"] PROGRAM [ARGUMENTS]
#
# Exit code 77 when this is not possible here.
set -eu

skip() {
    echo "two hosts: left out: $*" >&2
    exit 77
}

ranks=2
options=
while getopts n:x: option; do
    case $option in
    n) ranks=$OPTARG ;;
    x) options=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }

[ "$(id -u)" = 0 ] || skip "this is not root"
for tool in ip unshare mpirun hostname; do
    command -v $tool >/dev/null || skip "there is no $tool"
done

name=cadre-$$
work=$(mktemp -d)
clean() {
    trap '' INT TERM HUP
    for host in a b; do
        ip netns pids $name-$host 2>/dev/null | xargs -r kill -KILL 2>/dev/null || :
        ip netns del $name-$host 2>/dev/null || :
    done
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

ip netns add $name-a 2>"$work/why" && ip netns add $name-b 2>"$work/why" &&
    ip link add eth0 netns $name-a type veth peer name eth0 netns $name-b 2>"$work/why" ||
    skip "no network namespaces joined by a virtual link: $(head -n 1 "$work/why")"
number=1
for host in a b; do
    ip -n $name-$host address add 10.77.0.$number/24 dev eth0
    ip -n $name-$host link set lo up
    ip -n $name-$host link set eth0 up
    number=$((number + 1))
done

cores=$(nproc)
half=$((cores / 2))
own_a= own_b=
if [ $half -gt 0 ] && taskset -c 0-$((cores - 1)) true 2>/dev/null; then
    own_a="taskset -c 0-$((half - 1))" own_b="taskset -c $half-$((cores - 1))"
fi

# In place of ssh: mpirun calls it with the host and a command.
cat >"$work/agent" <<END
#!/bin/sh
shift
export TMPDIR=$work/b
exec $own_b ip netns exec $name-b unshare --uts sh -c "hostname $name-b; \$*"
END
chmod +x "$work/agent"
mkdir "$work/a" "$work/b"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle-1}
export TMPDIR="$work/a" NAME="$name-a"
# shellcheck disable=SC2086
$own_a ip netns exec $name-a unshare --uts sh -c 'hostname "$NAME"; exec "$@"' sh \
    mpirun --host 10.77.0.1:$ranks,10.77.0.2:$ranks -np $((2 * ranks)) --bind-to none --mca plm_rsh_agent "$work/agent" \
    --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 -x OMPI_MCA_mpi_yield_when_idle $options "$@"
