#!/bin/sh
# halt.sh - halts without powering off.
halt -f
sleep 10
