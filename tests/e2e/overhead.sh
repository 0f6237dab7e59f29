#!/bin/sh
# Memory beyond the guest's own is under 48 MiB for a 512 MiB guest, and pages that a guest never touches cost nothing.
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
# beyond SIZE: KiB of peak resident memory beyond the guest's frames
beyond() {
	expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/initrd.img -m $1 --paging $paging --debug-exit --timeout 60 \
		--stats "$TMP/stats.json" --append "quiet trifold.run=/bin/true"
	python3 -c 'import json, sys; h = json.load(open(sys.argv[1]))["host"]; print(h["max_rss_kib"] - h["guest_kib"], h["guest_kib"])' "$TMP/stats.json"
}
set -- $(beyond 512M)
echo "512 MiB guest: $(($1 / 1024)) MiB beyond the $(($2 / 1024)) MiB that it touched"
[ $1 -lt $((48 * 1024)) ] || fail "$1 KiB beyond the guest's own memory"
[ $2 -lt $((256 * 1024)) ] || fail "an idle guest has $2 KiB of frames"
small=$1
set -- $(beyond 6G)
echo "6 GiB guest: $(($1 / 1024)) MiB beyond the $(($2 / 1024)) MiB that it touched"
[ $1 -lt $((small + 16 * 1024)) ] || fail "memory never touched costs: $1 KiB, not $small"
