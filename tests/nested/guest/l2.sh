#!/bin/sh
# l2.sh - what a guest of a guest has to say for itself.
uname -r
dmesg | grep -o "Hypervisor detected: KVM"
sum=0
for i in $(seq 1 200); do
	sum=$((sum + $(echo $i | wc -c)))
done
echo "L2 is in user land: $sum after $(cut -d' ' -f1 /proc/uptime) s"
