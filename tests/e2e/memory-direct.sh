#!/bin/sh
# As a paravirtualized guest the cloud kernel boots with little memory and with 4 GiB, sees it all, and can use it. (least-memory.sh looks for the least.)
# timeout: 240
# each: 96M 4G
. tests/e2e/lib/lib.sh
size=$1

expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging direct -m $size --debug-exit --timeout 200 \
	--append "quiet trifold.run=/tests/memory.sh"
cat "$TMP/out"
total=$(awk '/MemTotal/ { print int($2 / 1024) }' "$TMP/out")
case $size in
*G) wanted=$((${size%G} * 1024)) ;;
*M) wanted=${size%M} ;;
esac
# The kernel keeps its image, its page records and its list of frames for itself.
[ $total -ge $((wanted - 64 - wanted / 32)) ] || fail "the guest sees $total MiB of $wanted"
grep -q "touch-memory: [1-9]" "$TMP/out" || fail "memory was not touched"
