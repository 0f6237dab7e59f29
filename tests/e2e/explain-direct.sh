#!/bin/sh
# With --paging direct `explain` tells v to m in one dimension of a running Linux; `exits`, `stats`, `top` and `audit` show its hypercalls and page types.
# timeout: 120
. tests/e2e/lib/lib.sh

says() {
	of=$1
	shift
	for pattern; do
		grep -q -e "$pattern" "$TMP/x" || { cat "$TMP/x"; fail "$of: '$pattern' is not there"; }
	done
}

$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging direct --timeout 100 --control "$socket" \
	--append "quiet trifold.run=/tests/busy.sh" >"$TMP/guest" 2>&1 </dev/null &
vm=$!
wait_for "guest: busy" "$TMP/guest"

ctl explain 0xffffffff81000000 >"$TMP/x"
says "kernel text" "^v 0xffffffff81000000, CR3 0x[0-9a-f]*, .* mode direct" "^the kernel's table" "level 4  .m 0x" "level 1  .m 0x.*  leaf" \
	"is p 0x[0-9a-f]*; no mapping may write it" "in a page of 4 KiB: kernel only, read-only, executable" "m 0x[0-9a-f]* is p 0x1000000" \
	"v 0xffffffff81000000 -> m 0x[0-9a-f]* + 0x0" "reads 4 entries, all of the guest's tables" "kernel fetch *allowed by" \
	"kernel write *guest fault #PF, error 0x3: the level-1 entry does not allow writes"
grep -q p2m "$TMP/x" && fail "there is no p2m in one dimension"
# p and m differ: the list of the guest scatters its pages.
same=0
for page in 1 2 3 4 5 6 7 8; do
	ctl explain 0xffffffff8100${page}000 >"$TMP/x"
	m=$(sed -n 's/^  v .* -> m 0x\([0-9a-f]*\) + 0x0$/\1/p' "$TMP/x")
	[ -n "$m" ] || fail "no frame is named"
	[ "$m" != 100$page ] || same=$((same + 1))
done
[ $same -le 1 ] || fail "machine frames are guest frames"

ctl explain 0xffff800000000000 >"$TMP/x"
says "M2P" "is no page of the guest's; no mapping may write it" "kernel read *allowed" "kernel write *guest fault #PF, error 0x3"
ctl explain 0 >"$TMP/x"
says "address 0" "kernel read *guest fault #PF, error 0x0: the level-[1-4] entry is not present"
ctl explain 0x800000000000 >"$TMP/x"
says "not canonical" "not canonical: any access is #GP"

# The user's table is another one, by the name that the kernel's explanation gives; there what the user runs can be reached.
seen=
for i in $(seq 60); do
	ctl explain rip >"$TMP/x"
	# A user page that no fetch has met yet is the one thing that RIP may point to without its being there: exec's first instruction.
	grep -q "kernel fetch *allowed" "$TMP/x" ||
		{ grep -q "^v 0x[0-7]\{,1\}[0-9a-f]\{,11\}," "$TMP/x" && grep -q "kernel fetch *guest fault #PF, error 0x10: .* not present" "$TMP/x"; } ||
		{ cat "$TMP/x"; fail "what runs cannot be fetched"; }
	user=$(sed -n 's/^the kernel.s table; that of the user is another: --cr3 \(0x[0-9a-f]*\)$/\1/p' "$TMP/x")
	[ -n "$user" ] || continue
	ctl explain 0xffffffff81000000 user --cr3 $user >"$TMP/x"
	! grep -q "the user's table" "$TMP/x" || seen=yes
	grep -q "user read *allowed" "$TMP/x" && fail "user code may read the kernel's text"
done
[ -n "$seen" ] || fail "the user's table was not seen in 60 looks"

ctl exits >"$TMP/x"
says exits "^for the hypervisor" "  hypercalls  *[1-9]" "  syscalls_bounced  *[1-9]" "^by hypercall" "  mmu_update  *[1-9]" "  iret  *[1-9]" "  mmuext_op  *[1-9]"
ctl top >"$TMP/x"
says top "^xen  *hypercalls  *[0-9]" "^hypercalls  *iret  *[0-9]" "^pages  *validations  *[0-9]"
ctl top exits >"$TMP/x"
says "top exits" "iret"
ctl stats | python3 -c '
import json, sys
s = json.load(sys.stdin)
assert sum(s["hypercalls"].values()) == s["xen"]["hypercalls"], "hypercalls by name do not add up"
assert s["pages"]["validations"] > 100 and s["xen"]["multicall_entries"] > s["xen"]["multicalls"]' || fail "stats"
ctl audit >"$TMP/x"
says audit "^clean: TLB, page types"
for no in "move 0x1000" "move-random 10" "dirty start" "balloon 64M"; do
	expect_status 125 ctl $no
	grep -q "direct" "$TMP/err" || { cat "$TMP/err"; fail "$no: the reason is not named"; }
done
kill $vm
wait $vm || true
