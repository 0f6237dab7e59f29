#!/bin/sh
# Runs inside the guest, started by /init; the status that is not 0 ends the run through the debug-exit port.
micro
exit 1
