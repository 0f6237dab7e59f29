#!/bin/sh
# `trifold ctl SOCKET explain` tells the whole way of an address at each stage of the reference scenario, and of a running Linux.
# timeout: 120
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1

# says STAGE PATTERN...: each is in the explanation.
says() {
	stage=$1
	shift
	for pattern; do
		grep -q -e "$pattern" "$TMP/x" || { cat "$TMP/x"; fail "$stage: '$pattern' is not explained"; }
	done
}

mkfifo "$TMP/in"
$TRIFOLD run --kernel "$BUILD/bare/stages.elf" --paging $paging -m 64M --debug-exit --timeout 60 --control "$socket" \
	<"$TMP/in" >"$TMP/guest" 2>&1 &
vm=$!
exec 3>"$TMP/in"
v=0x80000064000
at_stage() {
	wait_for "stage $1 " "$TMP/guest"
	ctl explain $v >"$TMP/x"
	ctl explain $v | diff "$TMP/x" - || fail "$1: looking changes what there is to see"
}
next_stage() { printf . >&3; }
made=
[ $paging = shadow ] && made="; the shadow entry is made"
at_stage mapped
says mapped "^v $v, CR3 0x[0-9a-f]*, PCID 0, 4-level paging, mode $paging" "level 1 .* = 0x00000000003e8003  P W  leaf" \
	"p 0x3e8000 -> no frame yet" "kernel read *allowed by a walk; hidden fault: the page gets a frame$made\$" \
	"user read *guest fault #PF, error 0x5: the level-1 entry does not allow user"
next_stage
at_stage touched
says touched "level 1 .* = 0x00000000003e8063  P W A D  leaf" "v $v -> p 0x3e8000 -> m 0x" "level 1, kernel.*: reads and writes, local to space [1-9][0-9]* (PCID 0) -> m 0x" \
	"p2m 4:table P W U, 3:table P W U, 2:table P W U, 1:leaf of 4 KiB P W U" \
	"kernel write *allowed by TLB level 1" "reads 24 entries: 4 of the guest's tables, 20 of the p2m"
[ $paging = nested ] || says touched "level 1  page .* shadows the table at p 0x.*: -> m 0x[0-9a-f]* P W A D"
next_stage
at_stage unmapped
says unmapped "level 1 .* = 0x0000000000000000  (not present)" \
	"kernel read *allowed by TLB level 1; it goes to p 0x3e8000: the tables have changed, but the guest has not flushed"
next_stage
at_stage flushed
says flushed "kernel read *guest fault #PF, error 0x0: the level-1 entry is not present" "kernel write *guest fault #PF, error 0x2"
next_stage
at_stage remapped
says remapped "p 0x7d0000 -> no frame yet" "kernel read *allowed by a walk; hidden fault: the page gets a frame"
next_stage
at_stage backed
says backed "v $v -> p 0x7d0000 -> m 0x"
[ "$(ctl audit | cut -d: -f1)" = clean ] || fail audit
ctl explain $v --cr3 cr3 | diff "$TMP/x" - || fail "the current space by its own name"
ctl explain $v --cr3 0x3e8000 >"$TMP/x"
says "another space" "not the current one" "level 4  .p 0x3e8[0-9a-f]*. = 0x0000000000000000 " "error 0x0: the level-4 entry is not present"
ctl explain 0x800000000000 >"$TMP/x"
says "not canonical" "not canonical: any access is #GP"
ctl explain $v write kernel >"$TMP/x"
[ "$(sed -n '/^an access now/,$p' "$TMP/x" | grep -c '^  kernel write')" -ge 1 ] || fail "the access that was asked for is missing"
sed -n '/^an access now/,$p' "$TMP/x" | grep -q -e user -e read -e fetch && fail "accesses that were not asked for"
for bad in "explain 0 sideways" "explain" "explain here" "explain -5" "explain 0x10000000000000000" "explain 0 --cr3" "explain 0 0 0"; do
	expect_status 125 ctl $bad
done
next_stage
expect_end 85 "$TMP/guest"
exec 3>&-

$TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $paging --timeout 60 --control "$socket" \
	--append "quiet nokaslr trifold.run=/tests/busy.sh" >"$TMP/guest" 2>&1 </dev/null &
vm=$!
wait_for "guest: busy" "$TMP/guest"
ctl explain 0xffffffff81000000 >"$TMP/x"
says "kernel text" "leaf" "in a page of 2 MiB: kernel only, read-only, executable" "p 0x1000000 -> m 0x" "2 MiB: global -> m 0x" \
	"kernel fetch *allowed by" "kernel write *guest fault #PF, error 0x3: the level-2 entry does not allow writes" "user read *guest fault #PF, error 0x5"
ctl explain 0 >"$TMP/x"
says "address 0" "kernel read *guest fault #PF, error 0x0: the level-[1-4] entry is not present"
user=0 absent=0
for i in $(seq 60); do
	ctl explain rip >"$TMP/x"
	# A jump to a page of a program that is not there yet: the fault is what comes next.
	if grep -q "user fetch *guest fault #PF, error 0x14: the level-[1-4] entry is not present" "$TMP/x"; then
		absent=$((absent + 1))
	else
		grep -q -e "kernel fetch *allowed" -e "user fetch *allowed" "$TMP/x" || { cat "$TMP/x"; fail "what runs cannot be fetched"; }
	fi
	ctl explain rsp >"$TMP/x"
	if grep -q " user, writable" "$TMP/x"; then
		user=$((user + 1))
		says "user stack" "user fetch *guest fault #PF, error 0x15: the level-1 entry does not allow fetches" "kernel read *guest fault.*SMAP"
	fi
done
[ $absent -le 30 ] || fail "what runs is absent in $absent of 60 looks"
[ $user -gt 0 ] || fail "no user stack was seen in 60 looks"
[ "$(ctl audit | cut -d: -f1)" = clean ] || fail audit
kill $vm
wait $vm || true
