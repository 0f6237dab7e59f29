#!/bin/sh
# Debian's Xen in a guest starts an HVM domain with Debian's own tools: QEMU in domain 0 is its device model, hvmloader and SeaBIOS its firmware, on SVM and nested paging. Debian's
# kernel goes to user land there and powers off.
# timeout: 900
# each: nested shadow
. tests/e2e/lib/lib.sh
expect_status 0 $TRIFOLD run --kernel $GUESTS/xen --append "console=com1 com1=115200,8n1 dom0_mem=900M,max:900M dom0_max_vcpus=1 loglvl=info" \
	--initrd "$GUESTS/vmlinuz-amd64 console=hvc0 quiet panic=-1 trifold.run=/tests/domu.sh domu.kinds=hvm" --initrd $GUESTS/hvm.img \
	-m 1500M --paging "$1" --svm --debug-exit --timeout 800
for said in "guest: hvm is done" "guest: all done"; do
	grep -q "$said" "$TMP/out" || { cat "$TMP/out"; fail "nobody said '$said'"; }
done
