#!/bin/sh
# asleep.sh - fills memory, so that what is not used goes out, and sleeps.
checksum 0 1
echo "guest: asleep"
sleep 5
checksum 40 1
