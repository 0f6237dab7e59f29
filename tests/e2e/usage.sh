#!/bin/sh
# Bad usage and bad files end with 125 and one clear line; options of later versions are refused by name.
. tests/e2e/lib/lib.sh

# refuse WORD COMMAND-ARGUMENTS...: status 125, and one line on stderr that holds WORD.
refuse() {
	word=$1
	shift
	expect_status 125 $TRIFOLD "$@"
	lines=$(grep -vc "engine bt" "$TMP/err" || true)
	[ "$lines" = 1 ] || { cat "$TMP/err"; fail "$lines lines, not one: $*"; }
	grep -q -e "$word" "$TMP/err" || { cat "$TMP/err"; fail "the line does not name '$word': $*"; }
	[ ! -s "$TMP/out" ] || fail "something on stdout: $*"
}

kernel=$GUESTS/vmlinuz
refuse kernel run
refuse such-option run --such-option --kernel $kernel
for option in "--disk x" "--net user" "--share a=b" "--root x" "--gdb" "--engine kvm"; do
	refuse "$(echo "$option" | cut -d' ' -f1)" run --kernel $kernel $option
done
refuse "-c" run --kernel $kernel -c 2
refuse "machine-memory" run --kernel $kernel --paging direct -m 128M --machine-memory 64M
refuse "share-pages" run --kernel $kernel --paging direct --share-pages 1000
refuse "cpu" run --kernel $kernel --paging direct --cpu la57=on
refuse "more than one CPU" run --kernel $kernel --paging direct -c 2
refuse "net" run --kernel $kernel --paging direct --net user
refuse "no Xen notes" run --kernel "$BUILD/bare/reference.elf" --paging direct
refuse "-m" run --kernel $kernel -m 0
refuse "-m" run --kernel $kernel -m lots
refuse "-m" run --kernel $kernel -m 99999999999999999999G
refuse "-m" run --kernel $kernel -m -5M
refuse timeout run --kernel $kernel --timeout soon
refuse kernel run --kernel
refuse nowhere run --kernel "$TMP/nowhere"
refuse "$TMP" run --kernel "$TMP"
refuse nowhere run --kernel $kernel --initrd "$TMP/nowhere"
: >"$TMP/empty"
refuse empty run --kernel "$TMP/empty"
head -c 100000 $kernel >"$TMP/truncated"
refuse truncated run --kernel "$TMP/truncated"
head -c 1000000 /dev/urandom >"$TMP/random"
refuse random run --kernel "$TMP/random"
for at in 500 600 25000 5000000; do
	cp $kernel "$TMP/damaged"
	head -c 4096 /dev/urandom | dd of="$TMP/damaged" bs=1 seek=$at conv=notrunc 2>/dev/null
	status=0
	$TRIFOLD run --kernel "$TMP/damaged" --timeout 5 >"$TMP/out" 2>"$TMP/err" </dev/null || status=$?
	case $status in
	125|124|70|0) ;;
	*) cat "$TMP/err"; fail "status $status for a kernel damaged at $at" ;;
	esac
done
truncate -s 700M "$TMP/huge"
refuse huge run --kernel $kernel --initrd "$TMP/huge" -m 512M
refuse "memory" run --kernel $kernel -m 32M
# A kernel that could be paravirtualized is not unless it is asked for: this one is lost as soon as it makes a hypercall.
for paging in "" "--paging auto"; do
	expect_status 70 $TRIFOLD run --kernel "$BUILD/bare/pv_hostile.elf" $paging --timeout 20
	grep -q "paging direct" "$TMP/err" && fail "direct paging, though nobody asked for it"
done
expect_status 0 $TRIFOLD run --help
expect_status 125 $TRIFOLD jog
