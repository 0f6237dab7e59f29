#!/bin/sh
# balloon.sh - uses much of memory and frees it, waits while the balloon is inflated and deflated, and uses and checks all of it again.
set -eu
for module in virtio_ring virtio virtio_mmio virtio_balloon; do
	insmod /modules/$module.ko
done
checksum 160 2
echo "guest: freed"
# Until the host has filled and emptied it, and says so. (Memory that looks full does not tell: pages under report are not available either.)
until read -r word </dev/console && [ "$word" = go ]; do
	:
done
echo "guest: the balloon is empty again"
checksum 0 6
echo "guest: all done"
