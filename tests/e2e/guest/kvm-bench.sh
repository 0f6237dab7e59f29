#!/bin/sh
# kvm-bench.sh - what an exit of a guest of this guest takes, and its first touch of a page, with nested paging and with shadow tables (bench/sets/nested.py).
set -eu
insmod /lib/kvm/irqbypass.ko
insmod /lib/kvm/kvm.ko
for npt in 1 0; do
	insmod /lib/kvm/kvm-amd.ko npt=$npt
	for turn in 1 2 3 4 5; do
		echo "npt=$npt"
		kvm 5000 2048
	done
	rmmod kvm-amd
done
echo "guest: all done"
