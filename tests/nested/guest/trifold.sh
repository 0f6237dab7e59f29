#!/bin/sh
# trifold.sh - Trifold in a Trifold guest boots the same kernel once more, in both of its paging modes.
set -eu
for paging in nested shadow; do
	/usr/bin/trifold run --kernel /l2/vmlinuz --initrd /l2/initrd.img -m 128M --paging $paging --append "quiet trifold.run=/tests/l2.sh"
	echo "Trifold ended with $?, paging $paging"
done
echo "guest: all done"
