#!/bin/sh
# swapped.sh - checks more memory than the machine has, again and again, while processes come and go.
set -eu
checksum 0 5
checksum 40 6 &
checker=$!
storm 60 60
wait $checker
echo BEGIN text
busybox sh /tests/text.sh
echo END text
echo "guest: all done"
