#!/bin/sh
# Debian's memtest86+ makes a pass over a machine of 32 MiB as a kernel, its console on the serial port, and finds no error. (No hypervisor, but a kernel of the same kind: it is entered
# in 32-bit mode and finds the classic PC.) A pass takes four minutes, most of it the bit fade test's waiting.
# timeout: 1500
# each: nested shadow
. tests/e2e/lib/lib.sh
$TRIFOLD run --kernel $GUESTS/memtest --append "console=ttyS0,115200" -m 32M --paging "$1" --timeout 1400 </dev/null >"$TMP/out" 2>&1 &
vm=$!
# The screen, as text: cursor movements and colours taken out.
screen() { sed 's/\x1b\[[0-9;]*[A-Za-z]/ /g' "$TMP/out"; }
until screen | grep -q "Pass: *1 "; do
	kill -0 $vm 2>/dev/null || { screen | tail -c 1000; fail "it ended before the pass did"; }
	! screen | grep -q "Errors: *[1-9]" || { screen | tail -c 1000; fail "it found errors"; }
	sleep 5
done
screen | grep -q "Memtest86+ v6" || fail "its name is not on the screen"
screen | grep -q "Pass: *1  *Errors: *0 " || { screen | tail -c 1000; fail "the pass did not end without errors"; }
