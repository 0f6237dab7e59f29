#!/bin/sh
# tests/e2e/kvm_qemu.sh in all combinations.
# timeout: 400
# each: nested shadow auto
# each: 1 0
# each: microvm pc
exec tests/e2e/kvm_qemu.sh "$@"
