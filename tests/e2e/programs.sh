#!/bin/sh
# Debian's interpreters, a JIT, a database, compressors and ciphers give the same results in a guest as on the host.
# each: nested shadow
# timeout: 240
. tests/e2e/lib/lib.sh
TMPDIR=$TMP /usr/bin/bash tests/e2e/programs/work.sh >"$TMP/host"
grep -q "END programs" "$TMP/host" || fail "the script did not run on the host"
expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/programs.img -m 1G --paging $1 --debug-exit --timeout 220 \
	--append "quiet trifold.run=/programs/work.sh"
section programs "$TMP/out" | diff "$TMP/host" - || fail "results differ from the host's"
cat "$TMP/host"
