#!/bin/sh
# With each optimization turned off, and each switch that is off by default turned on, a kernel boots, gets through the guest's own tests with native
# results, and powers off. The list is that of `trifold run --help`; fuzz/runs must have a row for each of the translator's switches (gather has tests/e2e/gather.sh).
# timeout: 400
# each: nested shadow
. tests/e2e/lib/lib.sh
"$TRIFOLD" run --help | sed -n '/^switches for --tune/,/^$/s/^  \([a-z0-9-]*\) .*(default \([onf]*\))$/\1 \2/p' >"$TMP/switches"
[ "$(wc -l <"$TMP/switches")" -ge 8 ] || fail "the switches are not in the help"

while read -r name default; do
	other=on
	[ $default = off ] || other=off
	case $name in console-buffer|gather) true ;; *) false ;; esac || grep -q -- "--tune $name=$other" fuzz/runs || fail "fuzz/runs has no row with --tune $name=$other"
	echo "--tune $name=$other"
	expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img -m 256M --paging $1 --debug-exit --tune $name=$other \
		--timeout 120 --append "console=ttyS0 quiet trifold.run=/tests/tune.sh"
	as_on_host fpsum "$TMP/out" $GUESTS/test-root/bin/fpsum
	grep -q "guest: all done" "$TMP/out" || fail "the guest's script did not reach its end with --tune $name=$other"
done <"$TMP/switches"
