#!/bin/sh
# Debian's QEMU on kvm_amd in a guest boots Debian's kernel to user land, which powers off; with nested paging (1) and shadow tables (0) there.
# Further arguments than `make check` uses: a machine of QEMU's, pc instead of microvm (tests/nested).
# timeout: 400
# each: nested
# each: 1 0
. tests/e2e/lib/lib.sh
paging=$1 npt=$2 machine=${3:-microvm}
expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/qemu.img --paging "$paging" --svm -m 1G --debug-exit --timeout 360 \
	--append "quiet trifold.run=/tests/qemu.sh qemu.npt=$npt qemu.machine=$machine"
for said in "Hypervisor detected: KVM" "L2 is in user land: 692" "QEMU ended with 0" "guest: all done"; do
	grep -q "$said" "$TMP/out" || { cat "$TMP/out"; fail "nobody said '$said'"; }
done
