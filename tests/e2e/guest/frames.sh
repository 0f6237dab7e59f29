#!/bin/sh
# frames.sh - everything that can happen to a machine frame happens meanwhile: pages equal and unequal are checked over and over, processes come and go.
# trifold.seconds=N: for how long.
set -eu
for module in virtio_ring virtio virtio_mmio virtio_balloon; do
	insmod /modules/$module.ko
done
seconds=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^trifold.seconds=//p')
checksum 48 $seconds >/tmp/unequal &
unequal=$!
checksum 40 $seconds 10 >/tmp/equal &
equal=$!
echo "guest: checking"
# What code and page tables come to.
end=$(($(date +%s) + seconds))
while [ $(date +%s) -lt $end ]; do
	storm 20 20 >/tmp/storm
done
wait $unequal
wait $equal
cat /tmp/unequal /tmp/equal
echo BEGIN text
busybox sh /tests/text.sh
echo END text
echo "guest: all done"
