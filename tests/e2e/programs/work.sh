#!/usr/bin/bash
# work.sh - interpreters, a JIT, a database, compressors and ciphers, each with a result that must be the same everywhere.
export PATH=/usr/bin:/bin HOME=/ LC_ALL=C
work=${TMPDIR:-/tmp}

echo "BEGIN programs"
/usr/bin/python3 -c '
import hashlib, json, random, re, zlib
random.seed(5)
d = {i: random.random() for i in range(60000)}
s = json.dumps(d)
print("python", hashlib.sha256(s.encode()).hexdigest(), zlib.crc32(s.encode()), len(re.findall(r"[0-9]+[.][0-9]3", s)))
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
print("python", fib(22), 3**2000 % 1000000007, sum(sorted(d.values())[:1000]))'
perl -e 'my %h; for (1..100000) { $h{($_ * 7919) % 10007} .= chr(65 + $_ % 26) } my $s = 0;
for (sort keys %h) { $s = ($s * 33 + length($h{$_})) % 1000003 } my $t = join ",", map { sprintf "%.6f", sqrt $_ } 1..20000;
print "perl $s ", length($t), " ", unpack("%32C*", $t), "\n"'
luajit -e 'local ffi = require "ffi"
local a = ffi.new("double[?]", 4096)
for r = 1, 200 do for i = 0, 4095 do a[i] = a[i] * 0.5 + math.sin(i * r) end end
local s, t = 0, {}
for i = 0, 4095 do s = s + a[i] end
for i = 1, 200000 do t[i % 997 + 1] = (t[i % 997 + 1] or 0) + bit.bxor(i, i * 3) % 17 end
local u = 0
for i, v in ipairs(t) do u = (u * 31 + v) % 1000003 end
print(string.format("luajit %.9f %d", s, u))'
sqlite3 :memory: "create table t(a, b); with recursive c(x) as (select 1 union all select x + 1 from c where x < 40000)
insert into t select x, (x * 7919) % 10007 from c; create index i on t(b); select 'sqlite3', sum(a * b % 1000), count(distinct b) from t;
select 'sqlite3', b, count(*) from t group by b order by 3 desc, 2 limit 3;"
head -c 2000000 /usr/bin/bash >"$work/in"
xz -T1 -2 -c "$work/in" | xz -dc | cmp - "$work/in" && echo "xz same"
zstd -q -6 -c "$work/in" | zstd -dc | cmp - "$work/in" && echo "zstd same"
gzip -c "$work/in" | gzip -dc | cmp - "$work/in" && echo "gzip same"
sort "$work/in" | sha256sum
for cipher in aes-256-cbc aes-128-ctr chacha20; do
	openssl enc -$cipher -K 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f -iv 000102030405060708090a0b0c0d0e0f \
		-in "$work/in" 2>/dev/null | sha256sum
done
for digest in sha1 sha256 sha512 sha3-256 blake2b512; do
	openssl dgst -r -$digest <"$work/in"
done
openssl genrsa 1024 2>/dev/null | openssl rsa -check -noout 2>&1 | tail -n 1
echo "END programs"
