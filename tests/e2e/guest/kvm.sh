#!/bin/sh
# kvm.sh - loads kvm_amd and runs a guest of this guest (tests/e2e/guest-src/kvm.c).
set -eu
for module in irqbypass kvm kvm-amd; do
	insmod /lib/kvm/$module.ko
done
[ -c /dev/kvm ]
kvm 1000
kvm
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace'; then
	exit 9
fi
echo "guest: all done"
