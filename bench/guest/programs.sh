#!/usr/bin/bash
# programs.sh - Debian's programs with fixed work, natively and in guests: --list names the items, --ask reads names from standard input, one a line.
# Each item's output, and so its checksum, must be the same everywhere. DATA is where this script lies, TMPDIR a tmpfs.
export PATH=/usr/bin:/bin HOME=/ LC_ALL=C PYTHONHASHSEED=0
DATA=${BASH_SOURCE[0]%/*}
work=${TMPDIR:-/tmp}/bench-work
ITEMS="gcc python sqlite perl node luajit shell find tar sort xz unxz zstd gzip gunzip digest cipher"

prepare() {
	rm -rf "$work"
	mkdir -p "$work/tree"
	head -c 3000000 /usr/bin/python3 >"$work/in"
	xz -1 -c "$work/in" >"$work/in.xz"
	gzip -c "$work/in" >"$work/in.gz"
	for i in {1..40}; do
		mkdir -p "$work/tree/d$i"
		for k in {1..25}; do
			echo "file $k of directory $i; $((i * k * 7919 % 10007))" >"$work/tree/d$i/f$k.txt"
		done
	done
}

measure() { "$DATA/bench-command" "$@"; }

item() {
	case $1 in
	gcc) measure gcc sh -c "for i in $DATA/*.i; do gcc -O2 -c -o $work/out.o \$i && cat $work/out.o || exit 1; done" ;;
	python) measure python python3 -S "$DATA/work.py" ;;
	sqlite) measure sqlite sqlite3 :memory: "create table t(a integer primary key, b, c text);
		with recursive n(x) as (select 1 union all select x + 1 from n where x < 60000) insert into t select x, x * 7919 % 10007, 'row ' || x % 977 from n;
		create index i on t(b); select sum(a * b % 1000), count(distinct b) from t; select c, count(*), avg(b) from t group by c order by 2 desc, 1 limit 5;
		select count(*) from t x join t y on x.b = y.b where x.a < 5000; update t set b = b + 1 where a % 3 = 0; select sum(b) from t;
		select count(*) from t where c like '%7%';" ;;
	perl) measure perl perl "$DATA/work.pl" ;;
	node) measure node node "$DATA/work.js" ;;
	luajit) measure luajit luajit "$DATA/work.lua" ;;
	shell) measure shell bash "$DATA/storm.sh" ;;
	find) measure find sh -c "cd $work; for i in 1 2 3 4; do find tree -name '*7.txt' -size -9 | sort; find tree -type f -print0 | xargs -0 grep -l 77 | sort; done" ;;
	tar) measure tar sh -c "cd $work; for i in 1 2 3; do tar -c -f out.tar --sort=name --mtime=@0 --owner=0 --group=0 tree in; tar -t -f out.tar; mkdir x;
		tar -x -f out.tar -C x; rm -rf x; done" ;;
	sort) measure sort sh -c "head -c 1500000 $work/in | tr -c a-z '\\n' | sort | uniq -c | sort -rn | head -n 100" ;;
	xz) measure xz sh -c "head -c 700000 $work/in | xz -T1 -3 -c" ;;
	unxz) measure unxz sh -c "xz -d -c $work/in.xz; xz -d -c $work/in.xz" ;;
	zstd) measure zstd zstd -q -9 --single-thread -c "$work/in" ;;
	gzip) measure gzip gzip -6 -c -n "$work/in" ;;
	gunzip) measure gunzip sh -c "for i in 1 2 3 4 5; do gzip -d -c $work/in.gz; done" ;;
	digest) measure digest sh -c "cd $work; for i in 1 2 3 4; do for d in sha1 sha256 sha512 sha3-256 blake2b512; do openssl dgst -r -\$d in; done; done" ;;
	cipher) measure cipher sh -c "cd $work; for c in aes-256-cbc aes-128-ctr chacha20 camellia-128-cbc; do
		openssl enc -\$c -K 000102030405060708090a0b0c0d0e0f -iv 000102030405060708090a0b0c0d0e0f -in in 2>/dev/null; done" ;;
	*) "$DATA/bench-command" --skip "$1" ;;
	esac
}

if [ "$1" = --list ]; then
	echo $ITEMS
	exit
fi
prepare
"$DATA/bench-command" --clock begin
while read -r name _ && [ "$name" != end ]; do
	item "$name" </dev/null || break
done
rm -rf "$work"
"$DATA/bench-command" --clock end
