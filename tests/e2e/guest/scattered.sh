#!/bin/sh
# scattered.sh - a program uses pages that lie all over memory, then everything that all.sh does.
set -eu
scattered 4
sh /tests/all.sh
