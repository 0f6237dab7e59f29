#!/bin/busybox sh
# Runs inside the guest, started by /init: the set and the options that the kernel command line names (bench.set, bench.scale, bench.only).
# It always ends with status 1, so that the run ends through the debug-exit port.
set= scale=1 only=
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	bench.set=*) set=${word#*=} ;;
	bench.scale=*) scale=${word#*=} ;;
	bench.only=*) only=${word#*=} ;;
	esac
done
case $set in
programs) TMPDIR=/tmp /usr/bin/bash /bench/programs.sh --scale "$scale" --only "$only" ;;
*) "/bench/bench-$set" --scale "$scale" --only "$only" --dir /tmp ;;
esac
exit 1
