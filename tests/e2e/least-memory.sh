#!/bin/sh
# The kernel's own least is enough: 64 MiB do not hold its image while it unpacks the initramfs, so the least that boots is looked
# for in steps, and must not be more than 96 MiB (README says which).
# each: nested direct
. tests/e2e/lib/lib.sh
paging=$1

for size in 64 72 80 88 96; do
	status=0
	$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/initrd.img --paging $paging -m ${size}M --debug-exit --timeout 60 \
		--append "quiet trifold.run=/bin/true" >"$TMP/out" 2>&1 </dev/null || status=$?
	echo "$size MiB: status $status"
	[ $status != 0 ] || exit 0
	# Too little is the guest's panic or one clear line, never a hang.
	[ $status = 70 ] || [ $status = 125 ] || { tail -n 20 "$TMP/out"; fail "status $status with $size MiB"; }
done
fail "the kernel does not boot with 96 MiB"
