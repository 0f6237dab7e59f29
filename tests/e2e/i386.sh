#!/bin/sh
# A 32-bit program in a 64-bit guest computes what its 64-bit build does on the host, and nearly all of it is translated.
# each: nested shadow
# timeout: 90
. tests/e2e/lib/lib.sh
expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $1 --debug-exit --timeout 80 --stats "$TMP/stats" \
	--append "quiet trifold.run=/tests/i386.sh"
as_on_host compute "$TMP/out" $GUESTS/test-root/bin/compute
steps=$(sed -n 's/.*"insns_executor": *\([0-9]*\).*/\1/p' "$TMP/stats")
[ "$steps" -lt 3000000 ] || fail "the executor ran $steps instructions: 32-bit code is not translated"
cat "$TMP/native"
