#!/bin/sh
# clock.sh - the clocks over 20 seconds, and the source that the kernel chose.
set -eu
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
clocks 20
