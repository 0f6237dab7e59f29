#!/bin/busybox sh
# Runs inside the guest, started by /init, for the sets boot, idle and memory: says that /init runs, then does what bench.end names.
read -r cmdline </proc/cmdline
end=poweroff
for word in $cmdline; do
	case $word in
	bench.end=*) end=${word#*=} ;;
	esac
done
echo bench-init
case $end in
wait)
	sleep 5
	echo bench-idle
	sleep 100000 ;;
*) $end -f ;;
esac
