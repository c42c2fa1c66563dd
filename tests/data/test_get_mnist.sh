#!/bin/sh
# scripts/get-mnist.sh against a mirror of our own: success, going on, damage, failure. $1: the script.
set -eu
script=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v curl >/dev/null || exit 77 # file:// is curl's

check() { # check WHAT CONDITION...
    what=$1
    shift
    "$@" || {
        echo "not so: $what" >&2
        cat "$work/log" >&2
        exit 1
    }
}
get() { # get EXPECTED-STATUS
    status=0
    MNIST_MIRROR="file://$work/mirror" MNIST_SUMS=$work/sums "$script" "$work/got dir" 2>"$work/log" || status=$?
    check "exit status $1, not $status" [ $status -eq "$1" ]
}
said() { grep -q -e "$1" "$work/log"; }
lines() { [ "$(wc -l <"$work/log")" -eq "$1" ]; }

mkdir "$work/mirror"
head -c 300000 /dev/urandom >"$work/mirror/a.gz"
echo labels >"$work/mirror/b.gz"
(cd "$work/mirror" && sha256sum a.gz b.gz) >"$work/sums"

get 0
check "both were fetched" said "(2 fetched)"
check "a is there" cmp "$work/mirror/a.gz" "$work/got dir/a.gz"
check "b is there" cmp "$work/mirror/b.gz" "$work/got dir/b.gz"
check "nothing else is" [ "$(find "$work/got dir" -type f | wc -l)" -eq 2 ]

mv "$work/mirror" "$work/away" # there already: no mirror is needed
get 0
check "none was fetched" said "(0 fetched)"
mv "$work/away" "$work/mirror"

rm "$work/got dir/a.gz" # broken off, then gone on with
head -c 100000 "$work/mirror/a.gz" >"$work/got dir/a.gz.part"
get 0
check "a was gone on with" cmp "$work/mirror/a.gz" "$work/got dir/a.gz"

rm "$work/got dir/a.gz" # broken off, and what came was wrong
head -c 100000 /dev/zero >"$work/got dir/a.gz.part"
get 0
check "a was begun anew" cmp "$work/mirror/a.gz" "$work/got dir/a.gz"

rm "$work/got dir/a.gz" # more than there is
head -c 400000 /dev/zero >"$work/got dir/a.gz.part"
get 0
check "a was begun anew" cmp "$work/mirror/a.gz" "$work/got dir/a.gz"

echo x >>"$work/got dir/b.gz" # damaged since
get 0
check "b was replaced" cmp "$work/mirror/b.gz" "$work/got dir/b.gz"

rm "$work/got dir/a.gz" # the mirror is gone: what came before stays
head -c 100000 "$work/mirror/a.gz" >"$work/got dir/a.gz.part"
mv "$work/mirror" "$work/away"
get 1
check "the reason is told" said "mirror/a.gz: curl"
check "in two lines" lines 2
check "the part is kept" [ -s "$work/got dir/a.gz.part" ]
mv "$work/away" "$work/mirror"

rm "$work/got dir/a.gz.part"
echo other >>"$work/mirror/a.gz" # the mirror has something else
get 1
check "the sum is told" said "its sha256 is not"
check "no file" [ ! -e "$work/got dir/a.gz" ]
check "no part" [ ! -e "$work/got dir/a.gz.part" ]

if "$script" --bad 2>"$work/log" || "$script" a b 2>>"$work/log"; then exit 1; fi
check "usage is told twice" lines 2
"$script" --help >"$work/log"
check "help" said MNIST_MIRROR
if "$script" /proc/nowhere/at/all 2>"$work/log"; then exit 1; fi
check "the directory is told" said "cannot make the directory"
