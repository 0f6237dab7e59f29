#!/bin/sh
# memtester and stress-ng, as Debian packages them, find nothing wrong inside a guest.
# each: nested shadow
# timeout: 400
. tests/e2e/lib/lib.sh
expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/stress.img --paging $1 --placement scatter --debug-exit --timeout 380 \
	--append "quiet trifold.run=/stress/stress.sh"
tr -d '\r' <"$TMP/out"
grep -q "stress: all done" "$TMP/out" || fail "the script did not reach its end"
