#!/bin/sh
# memory.sh - how much memory the kernel sees, and that a good part of it holds what is written to it.
set -eu
grep MemTotal /proc/meminfo
free=$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
want=$((free / 2))
[ $want -le 256 ] || want=256
touch-memory $want
grep "System RAM" /proc/iomem
