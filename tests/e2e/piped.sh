#!/bin/sh
# What is piped into the console before the guest has a driver for it reaches the shell, whole.
# each: nested shadow direct
# timeout: 300
. tests/e2e/lib/lib.sh
for round in 1 2 3 4 5 6 7 8; do
	expect_status 0 sh -c "echo poweroff -f | $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/initrd.img --paging $1 --timeout 30 --append quiet"
done
