#!/bin/sh
# panic.sh - the kernel panics.
echo c >/proc/sysrq-trigger
sleep 10
