#!/bin/sh
# dirty.sh - writes to 1024 pages over and over, rests, and works through all.sh, while the monitor keeps a log of written pages.
set -eu
dirty 8 6
echo "guest: resting"
sleep 4
sh /tests/all.sh
