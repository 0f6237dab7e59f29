#!/bin/busybox sh
# Work for a profile: the kernel clears user memory, and a program runs a loop of its own.
dd if=/dev/zero of=/dev/null bs=64k count=100000 2>/dev/null
hot
