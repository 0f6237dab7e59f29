#!/bin/sh
# With a third of its memory in the machine the guest computes the same, the process stays small, and a swap file that fails is one clear error.
# timeout: 280
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $paging --debug-exit --swap $TMP"

$TRIFOLD run $machine -m 192M --machine-memory 64M --timeout 250 --control "$socket" --stats "$TMP/stats.json" \
	--append "quiet trifold.run=/tests/swapped.sh" >"$TMP/out" 2>&1 </dev/null &
vm=$!
wait_until test -S "$socket" || fail "no control socket"
# Everything that can happen to a frame at once.
ctl move-random 200 >/dev/null
ctl dirty start >/dev/null
while kill -0 $vm 2>/dev/null; do
	sleep 0.5
	ctl dirty fetch >/dev/null 2>&1 || true
	audit
done
expect_end 0 "$TMP/out"
cat "$TMP/out"
grep -q "192 MiB memory in 64 MiB of machine memory" "$TMP/out" || fail "the first line does not say what runs"
grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end"
as_on_host text "$TMP/out" busybox_on_host tests/e2e/guest/text.sh
python3 - "$TMP/stats.json" <<'PYTHON'
import json, sys
s = json.load(open(sys.argv[1]))
m, rss = s["memory"], s["host"]["max_rss_kib"] >> 10
print(f"{m['swapped_out']} pages out, {m['swapped_in']} in, {m['swap_zeros']} of zeros dropped, in {m['swap_rounds']} rounds; {rss} MiB resident")
assert m["swapped_in"] > 5000 and s["mmu"]["hidden_swapped"] > 5000 and rss < 128, "it was not swapped"
assert s["host"]["guest_kib"] <= 64 << 10
PYTHON
[ -z "$(find "$TMP" -name 'trifold-swap*')" ] || fail "the swap file is still there"

# Errors: no directory, no room to write, nothing to read back.
expect_status 125 $TRIFOLD run $machine --machine-memory 64M --swap "$TMP/nowhere"
grep -q "swap file in $TMP/nowhere: No such file" "$TMP/err" || { cat "$TMP/err"; fail "the missing directory is not named"; }
expect_status 125 sh -c "ulimit -f 16000; exec $TRIFOLD run $machine -m 192M --machine-memory 32M --timeout 60 --append 'quiet trifold.run=/tests/swapped.sh'"
[ "$(grep -c "^trifold: cannot put guest memory into the swap file in $TMP: " "$TMP/err")" = 1 ] || { cat "$TMP/err"; fail "no clear line about a full disk"; }
$TRIFOLD run $machine -m 128M --machine-memory 48M --timeout 60 --append "quiet trifold.run=/tests/asleep.sh" >"$TMP/out" 2>"$TMP/err" </dev/null &
vm=$!
wait_for "guest: asleep" "$TMP/out"
for fd in /proc/$vm/fd/*; do
	case $(readlink $fd) in
	"$TMP"/*deleted*) : >$fd ;;
	esac
done
expect_end 125 "$TMP/out" "$TMP/err"
[ "$(grep -c "^trifold: cannot read guest memory back from the swap file" "$TMP/err")" = 1 ] || { cat "$TMP/err"; fail "no clear line about a failed read"; }
