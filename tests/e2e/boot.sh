#!/bin/sh
# A Debian kernel boots in each paging mode, gets through the guest's own tests with native results, and powers off with status 0.
# timeout: 300
# each: cloud amd64
# each: nested shadow auto direct
. tests/e2e/lib/lib.sh
kernel=$1 paging=$2

expect_status 0 $TRIFOLD run --kernel $(kernel_file $kernel) --initrd $GUESTS/test.img -m 512M --paging $paging --debug-exit \
	--timeout 280 --stats "$TMP/stats.json" --append "quiet trifold.run=/tests/all.sh"
cat "$TMP/out"

as_on_host fpsum "$TMP/out" $GUESTS/test-root/bin/fpsum
as_on_host text "$TMP/out" busybox_on_host tests/e2e/guest/text.sh
grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end"
cat "$TMP/stats.json"
