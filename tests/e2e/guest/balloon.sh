#!/bin/sh
# balloon.sh - uses much of memory and frees it, waits while the balloon is inflated and deflated, and uses and checks all of it again.
set -eu
for module in virtio_ring virtio virtio_mmio virtio_balloon; do
	insmod /modules/$module.ko
done
checksum 160 2
echo "guest: freed"
# Until it has been filled and emptied again.
until [ -e /tmp/go-on ]; do
	sleep 1
	[ "$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)" -gt 90000 ] || touch /tmp/was-full
	[ ! -e /tmp/was-full ] || [ "$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)" -lt 150000 ] || touch /tmp/go-on
done
echo "guest: the balloon is empty again"
checksum 0 6
echo "guest: all done"
