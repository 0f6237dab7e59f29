#!/bin/sh
# la57.sh - what a kernel with 5 levels of page tables, or with 4, must get through; la57.wanted=yes|no on the command line says which it must be.
set -eu
wanted=no
grep -qw la57.wanted=yes /proc/cmdline && wanted=yes
if [ $wanted = yes ]; then
	grep -qw la57 /proc/cpuinfo
else
	! grep -qw la57 /proc/cpuinfo
fi
high $wanted
storm 100 100
mapping
signals
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace'; then
	exit 9
fi
echo "guest: all done"
