#!/bin/sh
# A paravirtualized guest's disk: a file system on it is sound after power-off, and after the process was killed at any moment it holds what was synced.
# timeout: 600
. tests/e2e/lib/lib.sh
PATH=$PATH:/sbin:/usr/sbin
disk=$TMP/disk.img
guest="--kernel $GUESTS/vmlinuz --initrd $GUESTS/disk.img --paging direct -m 256M --debug-exit --timeout 100"

# job NAME [,ro]: a run that does it.
job() {
	expect_status 0 $TRIFOLD run $guest --disk "$disk${2:-}" --stats "$TMP/$1.json" --append "quiet trifold.run=/disk/disk.sh disk.job=$1"
	grep -q "disk: $1 is done" "$TMP/out" || { cat "$TMP/out"; fail "$1 did not reach its end"; }
}
sound() { e2fsck -fn "$disk" >"$TMP/fsck" 2>&1 || { cat "$TMP/fsck"; fail "the file system is damaged after $1"; }; }

truncate -s 64M "$disk"
mkfs.ext4 -q -F "$disk"
job fill
sound power-off
job verify
sum=$(sha256sum <"$disk")
job read ,ro
[ "$sum" = "$(sha256sum <"$disk")" ] || fail "a read-only disk was written"
python3 - "$TMP" <<'PYTHON'
import json, sys
disk, back = (json.load(open(f"{sys.argv[1]}/fill.json"))[g] for g in ("disk", "back"))
assert disk["written_bytes"] > 3 << 20 and disk["flushes"] > 0 and disk["errors"] == 0 and back["disk_requests"] >= disk["writes"], (disk, back)
PYTHON

# Pulling the plug.
for round in 1 2 3; do
	: >"$TMP/storm" # now: what is started empties it some time later
	$TRIFOLD run $guest --disk "$disk" --append "quiet trifold.run=/disk/disk.sh disk.job=storm" >"$TMP/storm" 2>&1 </dev/null &
	vm=$!
	wait_for "reported $((round * 2))" "$TMP/storm"
	sleep 0.$(od -An -N1 -tu1 /dev/urandom | tr -d ' ')
	kill -9 $vm
	wait $vm || true
	vm=
	last=$(tr -d '\r' <"$TMP/storm" | sed -n 's/^reported \([0-9]*\)$/\1/p' | tail -n 1)
	job verify
	tr -d '\r' <"$TMP/out" | grep -q "^whole $last$" || { cat "$TMP/out"; fail "file $last was reported and is not there"; }
	sound "a kill (round $round)"
	mkfs.ext4 -q -F "$disk"
done

# One disk, one writer; and files that are no disks.
: >"$TMP/storm"
$TRIFOLD run $guest --disk "$disk" --append "quiet trifold.run=/disk/disk.sh disk.job=storm" >"$TMP/storm" 2>&1 </dev/null &
vm=$!
wait_for "reported 1" "$TMP/storm"
expect_status 125 $TRIFOLD run $guest --disk "$disk"
grep -q "in use by another process" "$TMP/err" || fail "no word of the other process"
kill $vm
expect_end 143 "$TMP/storm"
expect_status 125 $TRIFOLD run $guest --disk "$TMP/no-such-file"
expect_status 125 $TRIFOLD run $guest --disk /dev/null
expect_status 125 $TRIFOLD run --kernel $GUESTS/vmlinuz --disk "$disk"
