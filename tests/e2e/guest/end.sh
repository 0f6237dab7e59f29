#!/bin/sh
# end.sh N - how all.sh and tune.sh end: N small processes and pipes, and a kernel that has nothing to complain about.
set -eu
i=0
while [ $i -lt $1 ]; do
	/bin/true
	[ "$(echo $i | cat | cat)" = $i ]
	i=$((i + 1))
done
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace|segfault'; then
	dmesg | tail -n 60
	exit 9
fi
echo "guest: all done"
