#!/bin/sh
# moved.sh - all of memory is checked again and again, then everything that all.sh does, while the monitor moves the frames about.
# The second check says what it found at the end only: its line must not fall into a section of all.sh.
set -eu
checksum 0 4
checksum 64 8 >/tmp/checked &
checker=$!
sh /tests/all.sh
wait $checker
cat /tmp/checked
