#!/bin/sh
# stress.sh - memtester, and stress-ng's stressors one after the other, each checking its own results (--verify).
set -eu
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
cd /tmp
memtester 6M 1 >/tmp/memtester.log 2>&1 || { tr '\b' '\n' </tmp/memtester.log | tail -n 20; echo "memtester failed"; exit 1; }
echo "stress: memtester ok"
for stressor in cpu vm vm-rw mmap mprotect mremap madvise brk stack shm fork vfork clone exec pipe switch context futex mutex sem poll timer \
	nanosleep signal sigsegv sigfpe sigtrap sigq longjmp fp fp-error vecmath vecwide matrix qsort bsearch hash str wcs memcpy crypt zlib judy \
	randlist branch icache jpeg prefetch x86syscall; do
	# shm would take 450 MiB of the guest's 512 as soon as a second is long enough for all of its objects.
	stress-ng --verify --timeout 1 --vm-bytes 16M --mmap-bytes 8M --shm-bytes 2M --$stressor 1 >/tmp/log 2>&1 || {
		cat /tmp/log
		echo "stress: $stressor failed"
		exit 1
	}
	if grep -q "stress-ng: fail" /tmp/log; then
		cat /tmp/log
		exit 1
	fi
	echo "stress: $stressor ok"
done
if dmesg | grep -E 'BUG:|Oops|WARNING: CPU|Call Trace'; then
	exit 9
fi
echo "stress: all done"
