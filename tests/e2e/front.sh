#!/bin/sh
# A paravirtualized disk's front end that lies (tests/guest/pv_front.c) gets errors, and the file holds what it held.
# timeout: 100
. tests/e2e/lib/lib.sh
python3 - "$TMP/disk" <<'PYTHON'
import struct, sys
open(sys.argv[1], "wb").write(b"".join(struct.pack("<I", n + 1) + bytes(508) for n in range(64)))
PYTHON
cp "$TMP/disk" "$TMP/before"
for engine in bt exec; do
	TRIFOLD_ENGINE=$engine expect_status 85 $TRIFOLD run --kernel "${GUESTS%/guests}/bare/pv_front.elf" --paging direct -m 32M --debug-exit --timeout 40 --disk "$TMP/disk"
	cmp "$TMP/disk" "$TMP/before" || fail "the disk was written to"
done
