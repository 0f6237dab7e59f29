#!/bin/sh
# idle.sh - says so, then does nothing.
sleep 1
echo "guest: idle"
sleep 60
