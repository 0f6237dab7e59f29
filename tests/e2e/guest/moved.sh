#!/bin/sh
# moved.sh - all of memory is checked again and again, then everything that all.sh does, while the monitor moves the frames about.
set -eu
checksum 0 4
checksum 64 8 &
checker=$!
sh /tests/all.sh
wait $checker
