#!/bin/sh
# In domain 0 of Xen: it is one, has a clock that runs, memory, processes and files, and powers off by itself.
set -eu
[ "$(cat /sys/hypervisor/type)" = xen ]
echo "guest: Xen $(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor), clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
grep -q "timer0" /proc/interrupts
before=$(cut -d. -f1 /proc/uptime)
sleep 2
[ $(($(cut -d. -f1 /proc/uptime) - before)) -ge 2 ]
dd if=/dev/urandom of=/tmp/a bs=1M count=8 2>/dev/null
for i in 1 2 3 4 5 6 7 8; do
	cp /tmp/a /tmp/b$i &
done
wait
[ "$(cat /tmp/b? | md5sum)" = "$(for i in 1 2 3 4 5 6 7 8; do cat /tmp/a; done | md5sum)" ]
echo "guest: all done"
