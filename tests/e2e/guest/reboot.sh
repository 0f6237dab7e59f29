#!/bin/sh
# reboot.sh - asks for a restart.
reboot -f
sleep 10
