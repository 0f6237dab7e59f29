#!/bin/busybox sh
# Runs inside the guest, started by /init: the set that the kernel command line names (bench.set); the console says which items.
# It always ends with status 1, so that the run ends through the debug-exit port.
set=
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	bench.set=*) set=${word#*=} ;;
	esac
done
stty -echo </dev/console
case $set in
programs) /usr/bin/bash /bench/programs.sh --ask </dev/console ;;
*) "/bench/bench-$set" --ask --dir /tmp </dev/console ;;
esac
exit 1
