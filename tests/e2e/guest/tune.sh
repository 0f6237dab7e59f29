#!/bin/sh
# tune.sh - a short all.sh, for runs with an optimization turned off, which may be many times slower.
set -eu
run() { echo "guest: $*"; "$@"; }
run signals breakpoints
run selfmod
echo BEGIN fpsum
fpsum
echo END fpsum
i=0
while [ $i -lt 10 ]; do
	/bin/true
	[ "$(echo $i | cat | cat)" = $i ]
	i=$((i + 1))
done
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace|segfault'; then
	dmesg | tail -n 60
	exit 9
fi
echo "guest: all done"
