#!/bin/sh
# symbols.sh LIBRARY...: each exports something, and nothing but names of ours.
set -u
status=0
for library in "$@"; do
    names=$(nm -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//')
    foreign=$(printf '%s\n' "$names" | grep -Ev '^(cadre_|ct_)')
    [ -n "$names" ] || { echo "$library exports nothing"; status=1; }
    [ -z "$foreign" ] || { printf '%s exports names that are not ours:\n%s\n' "$library" "$foreign"; status=1; }
done
exit $status
