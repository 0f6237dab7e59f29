#!/bin/sh
# The console is a terminal: fluent typing, pastes, keys, signals, and settings left as they were.
# each: nested shadow direct
# timeout: 240
. tests/e2e/lib/lib.sh
python3 tests/e2e/lib/console.py $TRIFOLD $GUESTS/vmlinuz $GUESTS/initrd.img $1
