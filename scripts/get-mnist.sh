#!/bin/sh
# Fetch the four MNIST files into a directory, checked by their sha256. What is there and whole already is left alone, what was
# broken off is gone on with, and a file has its name only once it is whole.
#
#   scripts/get-mnist.sh [DIR]       DIR: mnist
#
#   MNIST_MIRROR   take the files from this base URL alone (file:// too)
#   MNIST_SUMS     a file of "sha256  name" lines in place of the list below, for another data set (with MNIST_MIRROR)
set -eu

dir=${1:-mnist}
mirrors=${MNIST_MIRROR:-"https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist"}
sums='440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609  train-images-idx3-ubyte.gz
3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c  train-labels-idx1-ubyte.gz
8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6  t10k-images-idx3-ubyte.gz
f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6  t10k-labels-idx1-ubyte.gz'

say() {
    echo "get-mnist: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

case ${1:-} in
-h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
-*) fail "unknown option $1; usage: get-mnist.sh [DIR]" ;;
esac
[ $# -le 1 ] || fail "one directory at most; usage: get-mnist.sh [DIR]"

if [ -n "${MNIST_SUMS:-}" ]; then
    [ -r "$MNIST_SUMS" ] || fail "cannot read $MNIST_SUMS (from MNIST_SUMS)"
    sums=$(cat "$MNIST_SUMS")
fi

if command -v sha256sum >/dev/null; then
    sha256() { sha256sum <"$1" | cut -d ' ' -f 1; }
elif command -v shasum >/dev/null; then
    sha256() { shasum -a 256 <"$1" | cut -d ' ' -f 1; }
else
    fail "neither sha256sum nor shasum is installed"
fi

# download URL FILE: go on where FILE ends. Its last line of output is the reason of a failure.
if command -v curl >/dev/null; then
    download() { curl -fsSL --retry 2 --connect-timeout 15 -C - -o "$2" "$1" 2>&1; }
elif command -v wget >/dev/null; then
    download() { wget -nv -c -t 3 -T 15 -O "$2" "$1" 2>&1; }
else
    fail "neither curl nor wget is installed"
fi

is_whole() {
    [ -f "$1" ] && [ "$(sha256 "$1")" = "$2" ]
}

# fetch_from URL PART SUM: a connection that breaks off leaves what came, for the next attempt; wrong bytes are thrown away.
fetch_from() {
    started=no
    [ -s "$2" ] && started=yes
    while :; do
        is_whole "$2" "$3" && return 0
        failed=0
        reason=$(download "$1" "$2") || failed=$?
        is_whole "$2" "$3" && return 0
        case $failed:$reason in
        0:* | *error:\ 416* | 33:* | 36:*) ;; # other bytes than ours before the place to go on from, or no going on there
        *)
            say "$1: ${reason##*
}"
            return 1
            ;;
        esac
        if [ $started = no ]; then
            say "$1: its sha256 is not $3"
            rm -f "$2"
            return 1
        fi
        started=no
        rm -f "$2"
    done
}

fetch() {
    for mirror in $mirrors; do
        if fetch_from "${mirror%/}/$1" "$dir/$1.part" "$2"; then
            mv -f "$dir/$1.part" "$dir/$1"
            return 0
        fi
    done
    return 1
}

mkdir -p "$dir" 2>/dev/null || fail "cannot make the directory $dir"
[ -w "$dir" ] || fail "cannot write to $dir"
if command -v flock >/dev/null; then
    exec 9<"$dir"
    flock -n 9 || fail "another get-mnist is at work in $dir"
fi

new=0
while read -r sum name; do
    if is_whole "$dir/$name" "$sum"; then
        continue
    fi
    fetch "$name" "$sum" || fail "$name could not be fetched; run again to go on, or set MNIST_MIRROR to another base URL"
    new=$((new + 1))
done <<END
$sums
END
say "$dir has all files ($new fetched)"
