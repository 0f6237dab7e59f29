#!/bin/sh
# Locks are taken in one order (docs/locking.md), whatever a VM does: a library that notes the orders (tests/e2e/lib/lockorder.c) is preloaded.
# each: nested shadow auto direct
# timeout: 150
. tests/e2e/lib/lib.sh
preload=$BUILD/tests/lockorder.so
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $1 --timeout 120 --control $socket --trace $TMP/trace"
work="busy.sh" begun="guest: busy"
case $1 in
direct) # a disk, and its front and back ends
	truncate -s 64M "$TMP/disk"
	PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q -F "$TMP/disk"
	LD_PRELOAD=$preload $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/disk.img --paging direct -m 256M --debug-exit --timeout 100 --disk "$TMP/disk" \
		--append "quiet trifold.run=/disk/disk.sh disk.job=fill" >"$TMP/disk.out" 2>&1 </dev/null || { cat "$TMP/disk.out"; fail "the disk's guest"; } ;;
*) work="frames.sh trifold.seconds=60" begun="guest: checking" # it has a balloon
	machine="$machine -m 224M --machine-memory 120M --swap $TMP --share-pages 20000" ;;
esac
LD_PRELOAD=$preload $TRIFOLD run $machine --stats "$TMP/stats" --append "quiet trifold.run=/tests/$work" >"$TMP/guest" 2>&1 </dev/null &
vm=$!
wait_for "$begun" "$TMP/guest"
for turn in 1 2 3 4 5 6; do
	for command in "explain rip" stats exits audit "move-random 50" "balloon 16M" "dirty start" "dirty fetch" "dirty stop" "balloon 0" "share 5000"; do
		ctl $command >"$TMP/answer" 2>&1 || [ $1 = direct ] || { cat "$TMP/answer"; fail "$command"; }
	done
	sleep 0.3
done
kill $vm
expect_end 143 "$TMP/guest"
cat "$TMP/guest" "$TMP"/disk.out 2>/dev/null | grep lockorder: >"$TMP/orders" || exit 0
cat "$TMP/orders"
grep -o "0x[0-9a-f]*" "$TMP/orders" | addr2line -f -s -e $TRIFOLD | paste - -
fail "two orders of locks"
