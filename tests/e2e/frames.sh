#!/bin/sh
# Frames move, are shared by equal pages, swapped out, given up by a balloon and logged, all at once: a Linux that checks its memory meanwhile notices nothing.
# timeout: 280
# each: nested shadow auto
. tests/e2e/lib/lib.sh
paging=$1
seconds=${2:-20}	# more by hand

$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m 224M --machine-memory 80M --swap "$TMP" --paging $paging --debug-exit --timeout $((seconds + 240)) \
	--share-pages 20000 --control "$socket" --stats "$TMP/stats.json" --append "quiet trifold.seconds=$seconds trifold.run=/tests/frames.sh" >"$TMP/out" 2>&1 </dev/null &
vm=$!
wait_until test -S "$socket" || fail "no control socket"
ctl share many >"$TMP/answer" 2>&1 && fail "a rate that is none"
grep -q "not a number of pages a second" "$TMP/answer" || { cat "$TMP/answer"; fail "no clear line about a rate that is none"; }
ctl share >"$TMP/answer"
grep -q "looking at 20000 pages a second" "$TMP/answer" || { cat "$TMP/answer"; fail "the rate is not what was asked for"; }
wait_for "guest: checking" "$TMP/out"
ctl move-random 200 >/dev/null
ctl dirty start >/dev/null
turn=0
while kill -0 $vm 2>/dev/null; do
	sleep 0.5
	ctl dirty fetch >/dev/null 2>&1 || true
	# In and out every few seconds.
	case $((turn % 12)) in
	3) ctl balloon 24M >/dev/null 2>&1 || true ;;
	9) ctl balloon 0 >/dev/null 2>&1 || true ;;
	esac
	[ $((turn % 4)) != 0 ] || audit
	turn=$((turn + 1))
done
expect_end 0 "$TMP/out"
cat "$TMP/out"
[ "$(grep -c "^checksum: .* are right" "$TMP/out")" = 2 ] || fail "a checksum is missing"
grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end"
as_on_host text "$TMP/out" busybox_on_host tests/e2e/guest/text.sh
python3 - "$TMP/stats.json" <<'PYTHON'
import json, sys
s = json.load(open(sys.argv[1]))
m, u, b = s["memory"], s["mmu"], s["balloon"]
print(f"{m['pages_merged']} pages joined, {m['pages_unshared']} left again, {m['pages_sharing']} saved at the end; {m['frames_moved']} moved; "
      f"{m['swapped_out']} out, {m['swapped_in']} in; {b['inflated']} into the balloon, {b['deflated']} out; {m['log_fetches']} fetches of the log; "
      f"hidden faults: {u['hidden_shared']} shared, {u['hidden_moved']} moved, {u['hidden_swapped']} swapped, {u['hidden_logged']} logged")
assert m["pages_merged"] > 2000 and u["hidden_shared"] > 200 and u["hidden_moved"] > 200, "too little was shared or moved"
assert m["swapped_in"] > 200 and m["log_fetches"] > 5 and b["inflated"] > 0, "not everything happened"
PYTHON
