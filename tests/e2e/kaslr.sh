#!/bin/sh
# Both kernels boot with address space randomization and without, in frames of any order.
# each: cloud amd64
# each: kaslr nokaslr
# timeout: 200
. tests/e2e/lib/lib.sh
expect_status 0 $TRIFOLD run --kernel $(kernel_file $1) --initrd $GUESTS/initrd.img --placement scatter --debug-exit --timeout 100 \
	--append "quiet $2 trifold.run=/bin/true"
