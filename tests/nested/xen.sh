#!/bin/sh
# Debian's Xen in a guest starts domains with Debian's own tools, each Debian's kernel to user land and power-off: paravirtualized, and PVH on SVM and nested paging.
# (Debian builds its hypervisor without CONFIG_SHADOW_PAGING, so hap=0 is refused; domu.sh asks xl info.)
# timeout: 900
# each: nested shadow auto
. tests/e2e/lib/lib.sh
expect_status 0 $TRIFOLD run --kernel $GUESTS/xen --append "console=com1 com1=115200,8n1 dom0_mem=512M,max:512M dom0_max_vcpus=1 loglvl=info" \
	--initrd "$GUESTS/vmlinuz-amd64 console=hvc0 quiet panic=-1 trifold.run=/tests/domu.sh domu.kinds=pv,hap,shadow" --initrd $GUESTS/domu.img \
	-m 1G --paging "$1" --svm --debug-exit --timeout 800
grep -q "guest: all done" "$TMP/out" || { cat "$TMP/out"; fail "the script in domain 0 did not reach its end"; }
for kind in pv hap; do
	grep -q "guest: $kind is done" "$TMP/out" || { cat "$TMP/out"; fail "no domain of kind $kind"; }
done
