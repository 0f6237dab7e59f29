#!/bin/sh
# all.sh - what every kernel in every paging mode must get through; the host compares the lines between the markers.
set -eu
run() { echo "guest: $*"; "$@"; }
run storm 300 300
run mapping
run signals breakpoints
run selfmod
run threads
echo BEGIN fpsum
fpsum
echo END fpsum
echo BEGIN text
busybox sh /tests/text.sh
echo END text
exec /tests/end.sh 300
