#!/bin/sh
# A Trifold guest inside a Trifold guest: no SVM is needed for that, only patience.
# timeout: 900
# each: nested shadow
. tests/e2e/lib/lib.sh
expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/trifold.img --paging "$1" -m 1G --debug-exit --timeout 800 \
	--append "quiet trifold.run=/tests/trifold.sh"
[ "$(grep -c "L2 is in user land: 692" "$TMP/out")" = 2 ] || { cat "$TMP/out"; fail "the guest of the guest was not in user land twice"; }
grep -q "guest: all done" "$TMP/out" || { cat "$TMP/out"; fail "the guest's script did not reach its end"; }
