#!/bin/sh
# Hundreds of random pages move every second under a Linux that boots, checks all its memory and works: it notices nothing but time.
# timeout: 300
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
socket=$TMP/vm.sock
trap 'kill $vm 2>/dev/null || true; rm -rf "$TMP"' EXIT

$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m 192M --paging $paging --debug-exit --timeout 280 \
	--control "$socket" --stats "$TMP/stats.json" --append "quiet trifold.run=/tests/moved.sh" >"$TMP/out" 2>&1 </dev/null &
vm=$!
for i in $(seq 100); do
	[ -S "$socket" ] && break
	sleep 0.05
done
expect() {
	wanted=$1
	shift
	"$TRIFOLD" ctl "$socket" "$@" >"$TMP/answer" 2>&1 || true
	grep -q -e "$wanted" "$TMP/answer" || { cat "$TMP/answer"; fail "$* does not say '$wanted'"; }
}
expect "moving 700 random pages" move-random 700/s
expect "not a number" move-random many
expect "not a number" move-random 1000000
expect "is not RAM" move 0xfee00000
audits=0
while kill -0 $vm 2>/dev/null; do
	sleep 1
	# The run may end meanwhile.
	"$TRIFOLD" ctl "$socket" audit >"$TMP/answer" 2>&1 && audits=$((audits + 1)) || ! grep -q "[MTS][0-9]:" "$TMP/answer" ||
		{ cat "$TMP/answer"; fail "audit"; }
	"$TRIFOLD" ctl "$socket" move 0x1000000 >/dev/null 2>&1 || true
done
status=0
wait $vm || status=$?
cat "$TMP/out"
[ $status = 0 ] || fail "status $status"
grep -q "checksum: 64 MiB are right" "$TMP/out" || fail "the second checksum is missing"
{ echo BEGIN fpsum; $GUESTS/test-root/bin/fpsum; echo END fpsum; } >"$TMP/fpsum"
section fpsum "$TMP/out" | diff - "$TMP/fpsum" || fail "floating point and vector checksums differ from native ones"
grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end"
[ $audits -gt 3 ] || fail "only $audits audits"
python3 - "$TMP/stats.json" <<'PYTHON'
import json, sys
s = json.load(open(sys.argv[1]))
rate = s["memory"]["frames_moved"] / (s["host"]["wall_ns"] / 1e9)
print(f"{s['memory']['frames_moved']} frames moved, {rate:.0f} a second; {s['mmu']['hidden_moved']} hidden faults because of it")
assert rate > 300 and s["mmu"]["hidden_moved"] > 1000, "too few moves"
PYTHON
