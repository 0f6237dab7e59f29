#!/bin/busybox sh
# Works until the file /tmp/enough appears, which nobody makes: processes, files and memory, without end. For tests that look on.
echo "guest: busy"
i=0
while [ ! -e /tmp/enough ]; do
	i=$((i + 1))
	seq 1 200 | sort -r | md5sum >/tmp/sum.$((i % 7))
done
