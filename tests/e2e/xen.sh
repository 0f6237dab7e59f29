#!/bin/sh
# Debian's Xen boots by multiboot, and linux-image-amd64 as its domain 0, paravirtualized, to user land and power-off. With --svm Xen takes SVM and nested paging into use.
# timeout: 300
# each: nested shadow
. tests/e2e/lib/lib.sh
case $1 in
nested) svm=--no-svm ;;
*) svm=--svm ;;
esac
expect_status 0 $TRIFOLD run --kernel $GUESTS/xen --append "console=com1 com1=115200,8n1 dom0_mem=512M,max:512M dom0_max_vcpus=1 loglvl=info" \
	--initrd "$GUESTS/vmlinuz-amd64 console=hvc0 quiet panic=-1 trifold.run=/tests/xen.sh" --initrd $GUESTS/test.img \
	-m 1G --paging $1 $svm --debug-exit --timeout 250
grep -q "guest: Xen 4\." "$TMP/out" || { cat "$TMP/out"; fail "domain 0 did not run its script"; }
grep -q "guest: all done" "$TMP/out" || { cat "$TMP/out"; fail "the script in domain 0 did not reach its end"; }
grep -q "Entering ACPI S5 state" "$TMP/out" || { cat "$TMP/out"; fail "Xen did not power off"; }
[ $svm = --no-svm ] || grep -q "HVM: Hardware Assisted Paging (HAP) detected" "$TMP/out" || { cat "$TMP/out"; fail "Xen did not take nested paging"; }
