#!/bin/sh
# Runs in a guest with a disk xvda that holds an ext4 file system, as disk.job=NAME on the kernel's command line says:
#   fill     a root file system with files and their checksums; what chroot runs from it works
#   storm    files, each synced and then reported, until somebody pulls the plug
#   verify   after either of them: every file that was reported is there and whole
#   read     the disk is read-only, and says so
job=
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in disk.job=*) job=${word#disk.job=} ;; esac
done
die() { echo "disk: $*"; exit 1; }
insmod /modules/xen-blkfront.ko || die "no front end"
for i in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/xvda ] && break
	sleep 0.3
done
mkdir -p /mnt
if [ "$job" = read ]; then
	[ "$(cat /sys/block/xvda/ro)" = 1 ] || die "not read-only"
	mount -t ext4 -o ro /dev/xvda /mnt || die "mount"
	grep -q greeting /mnt/etc/motd || die "a file is missing"
	dd if=/dev/zero of=/dev/xvda bs=512 count=1 2>/dev/null && die "it could be written"
	echo "disk: $job is done"
	exit 0
fi
mount -t ext4 /dev/xvda /mnt || die "mount"
case $job in
fill)
	mkdir -p /mnt/bin /mnt/etc /mnt/data
	cp /bin/busybox /mnt/bin/
	echo greeting >/mnt/etc/motd
	for i in 1 2 3 4 5 6 7 8; do
		dd if=/dev/urandom of=/mnt/data/$i bs=100k count=$i 2>/dev/null || die "write"
	done
	(cd /mnt && sha256sum bin/* etc/* data/* >sums) || die "checksums"
	chroot /mnt /bin/busybox sh -c 'cd / && /bin/busybox sha256sum -c -s sums' || die "chroot"
	;;
storm)
	n=0
	while :; do
		n=$((n + 1))
		dd if=/dev/urandom of=/mnt/new bs=8k count=$((n % 7 + 1)) 2>/dev/null || die "write"
		mv /mnt/new "/mnt/storm-$n" && sha256sum "/mnt/storm-$n" >/mnt/sum-$n && sync || die "sync"
		echo "reported $n"
		[ $n -lt 40 ] || rm "/mnt/storm-$((n - 39))" "/mnt/sum-$((n - 39))"
	done
	;;
verify)
	[ ! -f /mnt/sums ] || (cd /mnt && sha256sum -c -s sums) || die "a file is damaged"
	for f in /mnt/sum-*; do
		[ -s "$f" ] || continue
		sha256sum -c -s "$f" || die "$f: not what was synced"
		echo "whole ${f##*-}"
	done
	;;
*) die "what is disk.job=$job?" ;;
esac
umount /mnt || die "umount"
echo "disk: $job is done"
