#!/bin/sh
# With --cpu la57=on Debian's kernel runs with 5 levels of page tables, its stacks and a process's data at addresses of 57 bits; with no5lvl, or without
# the option, it runs with 4.
# timeout: 200
# each: cloud amd64
# each: nested shadow
. tests/e2e/lib/lib.sh
kernel=$1 paging=$2

# boots yes|no OPTION APPEND
boots() {
	expect_status 0 $TRIFOLD run --kernel $(kernel_file $kernel) --initrd $GUESTS/test.img --paging $paging --debug-exit --timeout 90 \
		--cpu la57=$2 --append "quiet $3 trifold.run=/tests/la57.sh la57.wanted=$1"
	grep -q "guest: all done" "$TMP/out" || { cat "$TMP/out"; fail "the guest's script did not reach its end"; }
}
boots yes on ""
[ $kernel = amd64 ] || boots no on no5lvl
[ $kernel = amd64 ] || boots no off ""
