#!/bin/sh
# A kernel boots whichever way its payload is packed: as Debian does, and as a plain ELF file.
# each: lz4 gzip xz zstd elf
# timeout: 200
. tests/e2e/lib/lib.sh
python3 tests/e2e/lib/repack.py $GUESTS/vmlinuz $1 "$TMP/kernel"
expect_status 0 $TRIFOLD run --kernel "$TMP/kernel" --initrd $GUESTS/initrd.img --debug-exit --timeout 100 --append "quiet trifold.run=/bin/true"
