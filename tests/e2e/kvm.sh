#!/bin/sh
# With --svm Debian's kvm_amd loads in a guest and runs a guest of its own, with nested paging and by shadowing its tables; without, there is no /dev/kvm.
# timeout: 200
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
boot="$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/kvm.img --paging $paging --debug-exit --timeout 90"
expect_status 0 $boot --svm --stats "$TMP/stats" --append "quiet trifold.run=/tests/kvm.sh"
grep -q "guest: all done" "$TMP/out" || { cat "$TMP/out"; fail "the guest's script did not reach its end"; }
[ "$(grep -c "L2 did what it was to do" "$TMP/out")" = 4 ] || { cat "$TMP/out"; fail "the guest of the guest did not run four times"; }
entries=$(sed -n 's/.*"vmruns": *\([0-9]*\).*/\1/p' "$TMP/stats")
[ "$entries" -ge 2000 ] || fail "2000 exits for a port took $entries VMRUNs"
# L2 writes 1024 pages twice; with nested paging each is a fault of the table that KVM keeps.
faults=$(sed -n 's/.*"nest_faults": *\([0-9]*\).*/\1/p' "$TMP/stats")
[ "$faults" -ge 2048 ] || fail "2048 first touches took $faults nested page faults"
# insmod of kvm-amd: EOPNOTSUPP.
expect_status $((95 << 1 | 1)) $boot --no-svm --append "quiet trifold.run=/tests/kvm.sh"
