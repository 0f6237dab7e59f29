#!/bin/sh
# However a guest ends, trifold's status says how.
# each: nested shadow direct
. tests/e2e/lib/lib.sh
paging=$1
guest() { $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $paging --append "quiet $1" --timeout 60 ${2:-}; }

expect_status 0 guest trifold.run=/bin/true --debug-exit
expect_status 0 guest trifold.run=/tests/reboot.sh
expect_status 0 guest trifold.run=/tests/halt.sh
expect_status 70 guest trifold.run=/tests/panic.sh
expect_status 11 guest trifold.run=/tests/debug-exit-5.sh --debug-exit
expect_status 0 guest trifold.run=/tests/debug-exit-5.sh
expect_status 3 guest trifold.run=/bin/false --debug-exit
expect_status 124 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $paging --timeout 3 \
	--stats "$TMP/stats.json" --append "quiet trifold.run=/tests/idle.sh"
python3 -m json.tool "$TMP/stats.json" >/dev/null || fail "the report after a time-out is not JSON"
# No init at all: the kernel panics.
expect_status 70 $TRIFOLD run --kernel $GUESTS/vmlinuz --paging $paging --timeout 60 --append "quiet"
grep -q "engine bt, paging $paging, 1 CPU, 512 MiB" "$TMP/err" || fail "the first line does not say what runs: $(head -n 1 "$TMP/err")"
