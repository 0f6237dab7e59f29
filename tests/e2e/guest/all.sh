#!/bin/sh
# all.sh - what every kernel in every paging mode must get through; the host compares the lines between the markers.
set -eu
run() { echo "guest: $*"; "$@"; }
run storm 300 300
run mapping
run signals breakpoints
run selfmod
run threads
echo BEGIN fpsum
fpsum
echo END fpsum
echo BEGIN text
busybox sh /tests/text.sh
echo END text
i=0
while [ $i -lt 300 ]; do
	/bin/true
	[ "$(echo $i | cat | cat)" = $i ]
	i=$((i + 1))
done
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace|segfault'; then
	dmesg | tail -n 60
	exit 9
fi
echo "guest: all done"
