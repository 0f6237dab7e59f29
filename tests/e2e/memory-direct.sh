#!/bin/sh
# As a paravirtualized guest the cloud kernel boots with little memory and with 4 GiB, sees it all, and can use it. (least-memory.sh looks for the least.)
# timeout: 240
# each: 96M 4G
. tests/e2e/lib/lib.sh
size=$1

expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging direct -m $size --debug-exit --timeout 200 \
	--append "quiet trifold.run=/tests/memory.sh"
cat "$TMP/out"
expect_memory $size
grep -q "touch-memory: [1-9]" "$TMP/out" || fail "memory was not touched"
