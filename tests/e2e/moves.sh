#!/bin/sh
# Hundreds of random pages move every second under a Linux that boots, checks all its memory and works: it notices nothing but time.
# timeout: 300
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1

$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m 192M --paging $paging --debug-exit --timeout 280 \
	--control "$socket" --stats "$TMP/stats.json" --append "quiet trifold.run=/tests/moved.sh" >"$TMP/out" 2>&1 </dev/null &
vm=$!
wait_until test -S "$socket" || fail "no control socket"
expect() {
	wanted=$1
	shift
	ctl "$@" >"$TMP/answer" 2>&1 || true
	grep -q -e "$wanted" "$TMP/answer" || { cat "$TMP/answer"; fail "$* does not say '$wanted'"; }
}
expect "moving 700 random pages" move-random 700/s
expect "not a number" move-random many
expect "not a number" move-random 1000000
expect "is not RAM" move 0xfee00000
audits=0
while kill -0 $vm 2>/dev/null; do
	sleep 1
	audit
	audits=$((audits + $(grep -c ^clean: "$TMP/answer" || true)))
	ctl move 0x1000000 >/dev/null 2>&1 || true
done
expect_end 0 "$TMP/out"
cat "$TMP/out"
grep -q "checksum: 64 MiB are right" "$TMP/out" || fail "the second checksum is missing"
as_on_host fpsum "$TMP/out" $GUESTS/test-root/bin/fpsum
grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end"
[ $audits -gt 3 ] || fail "only $audits audits"
python3 - "$TMP/stats.json" <<'PYTHON'
import json, sys
s = json.load(open(sys.argv[1]))
rate = s["memory"]["frames_moved"] / (s["host"]["wall_ns"] / 1e9)
print(f"{s['memory']['frames_moved']} frames moved, {rate:.0f} a second; {s['mmu']['hidden_moved']} hidden faults because of it")
assert rate > 300 and s["mmu"]["hidden_moved"] > 1000, "too few moves"
PYTHON
