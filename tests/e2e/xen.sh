#!/bin/sh
# Debian's Xen boots by multiboot, and linux-image-amd64 as its domain 0, paravirtualized, to user land and power-off. With --svm Xen takes SVM and nested paging into use.
# timeout: 600
# each: nested shadow
. tests/e2e/lib/lib.sh
case $1 in
nested) svm=--no-svm ;;
*) svm=--svm ;;
esac
# Without a domain 0 Xen panics. A domain 0 that panics has the machine reset.
expect_status 70 $TRIFOLD run --kernel $GUESTS/xen --append "console=com1" -m 256M --paging $1 $svm --timeout 100
[ $1 = shadow ] || expect_status 70 $TRIFOLD run --kernel $GUESTS/xen --append "console=com1 dom0_mem=512M,max:512M dom0_max_vcpus=1" \
	--initrd "$GUESTS/vmlinuz-amd64 console=hvc0 quiet panic=-1 trifold.run=/tests/panic.sh" --initrd $GUESTS/test.img -m 1G --paging $1 $svm --timeout 250
expect_status 0 $TRIFOLD run --kernel $GUESTS/xen --append "console=com1 com1=115200,8n1 dom0_mem=512M,max:512M dom0_max_vcpus=1 loglvl=info" \
	--initrd "$GUESTS/vmlinuz-amd64 console=hvc0 quiet panic=-1 trifold.run=/tests/xen.sh" --initrd $GUESTS/test.img \
	-m 1G --paging $1 $svm --debug-exit --timeout 250
grep -q "guest: Xen 4\." "$TMP/out" || { cat "$TMP/out"; fail "domain 0 did not run its script"; }
grep -q "guest: all done" "$TMP/out" || { cat "$TMP/out"; fail "the script in domain 0 did not reach its end"; }
grep -q "Entering ACPI S5 state" "$TMP/out" || { cat "$TMP/out"; fail "Xen did not power off"; }
[ $svm = --no-svm ] || grep -q "HVM: Hardware Assisted Paging (HAP) detected" "$TMP/out" || { cat "$TMP/out"; fail "Xen did not take nested paging"; }
