#!/bin/sh
# Pages that a program uses side by side are moved to frames side by side, and it computes the same; with --tune gather=off none is.
# timeout: 200
# each: nested shadow auto
. tests/e2e/lib/lib.sh
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $1 --placement scatter --debug-exit --timeout 90"

$TRIFOLD run $machine --control "$socket" --stats "$TMP/stats.json" --append "quiet trifold.run=/tests/scattered.sh" >"$TMP/out" 2>&1 </dev/null &
vm=$!
wait_until test -S "$socket" || fail "no control socket"
while kill -0 $vm 2>/dev/null; do
	sleep 0.3
	audit
done
expect_end 0 "$TMP/out"
grep -q "scattered: right" "$TMP/out" || { cat "$TMP/out"; fail "the program did not reach its end"; }
as_on_host fpsum "$TMP/out" $GUESTS/test-root/bin/fpsum
grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end"
expect_status 0 $TRIFOLD run $machine --stats "$TMP/off.json" --tune gather=off --append "quiet trifold.run=/tests/scattered.sh"
python3 - "$TMP" <<'PYTHON'
import json, sys
on, off = (json.load(open(f"{sys.argv[1]}/{name}.json"))["memory"] for name in ("stats", "off"))
print(f"{on['pages_gathered']} pages gathered")
# All 128 pages in the first round; in later ones the guest may get pages that lie well already.
assert on["pages_gathered"] >= 100 and off["pages_gathered"] == 0, (on, off)
PYTHON
