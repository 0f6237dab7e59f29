#!/bin/sh
# i386.sh - a 32-bit program, between lines that say where its output begins and ends.
set -eu
echo "BEGIN compute"
compute32
echo "END compute"
