#!/bin/sh
# text.sh - round trips through busybox's text tools. Its output is compared with that of the same busybox run on the host.
set -eu
dir=/tmp/text.$$
mkdir $dir
cd $dir
awk 'BEGIN { x = 1; for (i = 0; i < 20000; i++) { x = (x * 16807) % 2147483647; printf "%d %s line-%d\n", x, x % 97, i } }' >numbers
sha256sum numbers
sort -n numbers >sorted
sort -k2,2n -k1,1nr numbers | sha256sum
awk '{ count[$2]++; sum[$2] += $1 } END { for (k = 0; k < 97; k++) printf "%d %d %.3f\n", k, count[k], sum[k] / count[k] }' numbers | sha256sum
sed -e 's/line-\([0-9]*\)/\1:line/' -e '/7:line$/d' -e 'y/0123456789/abcdefghij/' sorted | sha256sum
gzip -c numbers >numbers.gz
gunzip -c numbers.gz | cmp - numbers && echo gzip returned what it was given
tr 0-9 A-J <numbers | tr A-J 0-9 | cmp - numbers && echo tr returned what it was given
od -An -tx1 numbers | head -n 500 | md5sum
cut -d' ' -f2 numbers | sort | uniq -c | sort -rn | head -n 5
for i in 1 2 3 4 5; do
	tar cf - numbers sorted | gzip | gunzip | tar xf - -O | sha512sum
done
seq 1 300 | while read -r n; do echo $((n * n)); done | awk '{ s += $1 } END { print s }'
expr 123456789 \* 987654321
echo '2^200; scale=30; 1/7; sqrt(2)' | bc
cd /
rm -r $dir
