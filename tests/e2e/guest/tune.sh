#!/bin/sh
# tune.sh - a short all.sh, for runs with an optimization turned off, which may be many times slower.
set -eu
run() { echo "guest: $*"; "$@"; }
run signals breakpoints
run selfmod
echo BEGIN fpsum
fpsum
echo END fpsum
exec /tests/end.sh 10
