#!/bin/sh
# In domain 0 of Xen: starts xenstore and the console daemon, and then domains of the kinds that the parameter domu.kinds=KIND,... names: their consoles show that they
# were in user land and powered off by themselves. pv: paravirtualized; hap: PVH with nested paging; shadow: PVH with Xen's shadow page tables;
# hvm: a PC with QEMU as its device model and SeaBIOS, nested paging.
set -eu
kinds=$(sed -n 's/.*domu\.kinds=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
bin=/usr/lib/xen-4.17/bin
log=/var/log/xen/console
mkdir -p /run /var /var/lib/xen /var/lib/xenstored /var/lock $log /run/xen /run/xenstored /dev/pts /etc/xen
ln -s /run /var/run
: >/etc/xen/xl.conf
ln -s $bin/xl /bin/xl
mount -t devpts devpts /dev/pts
for module in xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc; do
	insmod /modules/$module.ko
done
mount -t xenfs xenfs /proc/xen
grep -q control_d /proc/xen/capabilities
$bin/xenstored
$bin/xen-init-dom0
$bin/xenconsoled --log=guest
xl info | grep -E "^(release|xen_version|xen_caps|virt_caps|total_memory|free_memory)"

for kind in $kinds; do
	case $kind in
	pv) how='type = "pv"' ;;
	hap) how='type = "pvh"
hap = 1' ;;
	shadow) xl info | grep "^virt_caps.* shadow" || continue	# a hypervisor built without
		how='type = "pvh"
hap = 0' ;;
	hvm) how='type = "hvm"
hap = 1
serial = "pty"
vga = "none"
nographic = 1
vnc = 0
usb = 0
device_model_version = "qemu-xen"
device_model_override = "/usr/libexec/xen-qemu-system-i386"' ;;
	*) echo "no kind $kind"; exit 2 ;;
	esac
	cat >/tmp/$kind.cfg <<END
name = "$kind"
$how
memory = 160
vcpus = 1
kernel = "/domu/vmlinuz"
ramdisk = "/domu/initrd.img"
extra = "console=hvc0 quiet panic=-1 trifold.run=/tests/l2.sh"
on_poweroff = "destroy"
on_crash = "destroy"
on_reboot = "destroy"
END
	xl create /tmp/$kind.cfg || { cat /var/log/xen/qemu-dm-*.log; exit 5; }
	xl list
	i=0
	while xl domid $kind >/dev/null 2>&1; do
		sleep 1
		i=$((i + 1))
		[ $i -lt 700 ] || { cat $log/guest-$kind.log; xl dmesg | tail -n 30; echo "guest: $kind does not end"; exit 3; }
	done
	cat $log/guest-$kind.log
	grep -q "L2 is in user land: 692" $log/guest-$kind.log || { xl dmesg | tail -n 40; echo "guest: $kind was not in user land"; exit 4; }
	echo "guest: $kind is done"
done
echo "guest: all done"
