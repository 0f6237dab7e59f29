#!/bin/sh
# Memory that a Linux guest frees goes back to the host by itself (free page reporting) and on demand (balloon), and it computes rightly with what it gets back.
# timeout: 200
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
held() { ctl balloon >"$TMP/balloon" 2>&1 && sed -n 's/.*holds \([0-9]*\) MiB.*/\1/p' "$TMP/balloon"; }
with_frames() { ctl balloon >"$TMP/balloon" 2>&1 && sed -n 's/.*with frames: \([0-9]*\) MiB.*/\1/p' "$TMP/balloon"; }
frames_below() { [ "$(with_frames)" -lt $1 ]; }
holds() { [ "$(held)" -eq $1 ]; }

mkfifo "$TMP/in"
$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m 256M --paging $paging --debug-exit --timeout 180 --control "$socket" \
	--stats "$TMP/stats.json" --append "quiet trifold.run=/tests/balloon.sh" >"$TMP/guest" 2>&1 <"$TMP/in" &
vm=$!
exec 3>"$TMP/in"
wait_until test -S "$socket" || fail "no control socket"
ctl balloon >"$TMP/answer" 2>&1 && fail "a balloon without a driver"
grep -q "has not loaded a driver" "$TMP/answer" || { cat "$TMP/answer"; fail "no clear line about the driver"; }
ctl dirty start >/dev/null
wait_for "guest: freed" "$TMP/guest"
# 160 MiB were written, so they had frames.
wait_until frames_below 140 || { cat "$TMP/balloon" "$TMP/guest"; fail "what the guest freed stays with it"; }
grep -q "free page reporting is on" "$TMP/balloon" || fail "no free page reporting"
audit
expect_status 125 ctl balloon 256M
ctl balloon 150M >/dev/null
wait_until holds 150 || { cat "$TMP/balloon" "$TMP/guest"; fail "the balloon does not grow"; }
audit
grep -q "the guest last said: free" "$TMP/balloon" || { cat "$TMP/balloon"; fail "no statistics of the guest"; }
wait_until frames_below 106 || { cat "$TMP/balloon"; fail "pages in the balloon have frames"; }
ctl move-random 300 >/dev/null
ctl balloon 0 >/dev/null
wait_until holds 0 || { cat "$TMP/balloon" "$TMP/guest"; fail "the balloon does not shrink"; }
echo go >&3
wait_for "guest: the balloon is empty again" "$TMP/guest"
while kill -0 $vm 2>/dev/null; do
	sleep 0.5
	ctl dirty fetch >/dev/null 2>&1 || true
	audit
done
expect_end 0 "$TMP/guest"
cat "$TMP/guest"
grep -q "guest: all done" "$TMP/guest" || fail "the guest's script did not reach its end"
python3 - "$TMP/stats.json" <<'PYTHON'
import json, sys
b = json.load(open(sys.argv[1]))["balloon"]
print(b)
assert b["inflated"] >= 150 << 8 and b["deflated"] >= 150 << 8 and b["reported"] >= 100 << 8 and b["discarded"] > 100 << 8
PYTHON
