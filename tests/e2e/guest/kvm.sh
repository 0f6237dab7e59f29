#!/bin/sh
# kvm.sh - loads kvm_amd and runs a guest of this guest (tests/e2e/guest-src/kvm.c), with nested paging and with shadow tables.
set -eu
insmod /lib/kvm/irqbypass.ko
insmod /lib/kvm/kvm.ko
for npt in 1 0; do
	insmod /lib/kvm/kvm-amd.ko npt=$npt
	[ -c /dev/kvm ]
	value=$(cat /sys/module/kvm_amd/parameters/npt)
	case $npt$value in 1Y | 0N) ;; *) echo "npt=$npt was asked for, is $value"; exit 8 ;; esac
	# What it offers its guests' hypervisors: GIFs of their own, and with nested paging VMLOAD and VMSAVE.
	for on in vgif=Y nrips=Y vls=$([ $npt = 1 ] && echo Y || echo N); do
		value=$(cat /sys/module/kvm_amd/parameters/${on%=*})
		case ${on#*=}$value in YY | Y1 | NN | N0) ;; *) echo "${on%=*} is $value, not ${on#*=}"; exit 7 ;; esac
	done
	kvm 1000
	kvm
	rmmod kvm-amd
	echo "npt=$npt: both ran"
done
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace'; then
	exit 9
fi
echo "guest: all done"
