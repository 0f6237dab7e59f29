#!/bin/sh
# The cloud kernel boots with little memory and with more than fits below 4 GiB, sees it all, and can use it.
# each: 128M 512M 3G 4G 6G
. tests/e2e/lib/lib.sh
size=$1

expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m $size --debug-exit --timeout 100 \
	--append "quiet trifold.run=/tests/memory.sh"
cat "$TMP/out"
expect_memory $size
case $size in
4G|6G) grep -q "^100000000-" "$TMP/out" || fail "no memory above 4 GiB" ;;
esac
