#!/bin/sh
# Random 16- and 32-bit and virtual-8086 instructions leave in ring 3 what they leave in Debian's Bochs, in both engines.
# timeout: 600
. tests/e2e/lib/lib.sh
tools/against-bochs --build "$BUILD" --blocks 60 --seed 1
