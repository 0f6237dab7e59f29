#!/bin/sh
# qemu.sh - QEMU on this guest's own /dev/kvm boots a Debian kernel to user land, which powers off. Kernel parameters of this guest: qemu.npt=0 or 1, qemu.machine=.
set -eu
npt=1 machine=microvm
for word in $(cat /proc/cmdline); do
	case $word in
	qemu.npt=*) npt=${word#qemu.npt=} ;;
	qemu.machine=*) machine=${word#qemu.machine=} ;;
	esac
done
# Without a clock to read, the kernel asks for one for a second, by 40,000 exits.
[ $machine != microvm ] || machine=microvm,rtc=on
insmod /lib/kvm/irqbypass.ko
insmod /lib/kvm/kvm.ko
insmod /lib/kvm/kvm-amd.ko npt=$npt
echo "QEMU begins"
begin=$(cut -d' ' -f1 /proc/uptime)
/usr/bin/qemu-system-x86_64 -M "$machine" -accel kvm -cpu host -m 256 -nodefaults -no-user-config -display none -no-reboot -serial stdio \
		-kernel /l2/vmlinuz -initrd /l2/initrd.img -append "console=ttyS0 panic=-1 quiet trifold.run=/tests/l2.sh" </dev/null
echo "QEMU ended with $?; L2 took from $begin to $(cut -d' ' -f1 /proc/uptime)"
if dmesg | grep -E 'BUG|Oops|WARNING: CPU|Call Trace'; then
	exit 9
fi
echo "guest: all done"
