#!/bin/sh
# The log of written pages names what a Linux guest writes and little else, and the guest works on while it is fetched ten times a second.
# timeout: 200
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
fetch() { ctl dirty fetch >"$TMP/pages"; sed -n 's/ pages written$//p' "$TMP/pages"; }

$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m 256M --paging $paging --debug-exit --timeout 180 --control "$socket" \
	--stats "$TMP/stats.json" --append "quiet trifold.run=/tests/dirty.sh" >"$TMP/guest" 2>&1 </dev/null &
vm=$!
wait_for "dirty: 2048 pages" "$TMP/guest"
expect_status 125 ctl dirty fetch
ctl dirty start >/dev/null
expect_status 125 ctl dirty start
fetch >/dev/null
sleep 0.5
n=$(fetch)
# What it writes, and what the kernel needs for that.
[ "$n" -ge 1024 ] && [ "$n" -lt 2000 ] || fail "$n pages in the log of a program that writes 1024"
# The ranges add up.
python3 - "$TMP/pages" <<'PYTHON'
import sys
lines = open(sys.argv[1]).read().split("\n")
pages = sum((int(b, 16) + 1 - int(a, 16)) // 4096 for a, b in (line.split("-") for line in lines[1:] if line))
assert pages == int(lines[0].split()[0]), (pages, lines[0])
PYTHON
wait_for "guest: resting" "$TMP/guest"
sleep 1
fetch >/dev/null
sleep 1
idle=$(fetch)
[ "$idle" -lt 200 ] || fail "$idle pages written by a guest that rests"
ctl dirty stop >/dev/null
ctl dirty start >/dev/null
ctl move-random 300 >/dev/null
while kill -0 $vm 2>/dev/null; do
	sleep 0.1
	ctl dirty fetch >/dev/null 2>&1 || true
	audit
done
expect_end 0 "$TMP/guest"
grep -q "guest: all done" "$TMP/guest" || fail "the guest's script did not reach its end"
echo "$n pages written by a program that writes 1024, $idle while the guest rests"
python3 - "$TMP/stats.json" <<'PYTHON'
import json, sys
s = json.load(open(sys.argv[1]))
assert s["memory"]["log_fetches"] > 20 and s["mmu"]["hidden_logged"] > 2000, (s["memory"], s["mmu"])
print(s["memory"]["log_fetches"], "fetches,", s["mmu"]["hidden_logged"], "hidden faults because of them")
PYTHON
