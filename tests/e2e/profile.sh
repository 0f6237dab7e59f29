#!/bin/sh
# A profile ranks what must be hot, in the kernel and in a program, loses no sample, and is the same as text and as JSON; perf gets its names.
# each: nested shadow direct
# timeout: 200
. tests/e2e/lib/lib.sh
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $1 --debug-exit --timeout 60 --symbols $GUESTS/test-root/bin/hot"
for file in profile.txt profile.json; do
	expect_status 0 $TRIFOLD run $machine --profile "$TMP/$file" --profile-every 250 --append "quiet trifold.run=/tests/profile.sh"
	tr -d '\r' <"$TMP/out" | grep -q '^hot [01]$' || fail "the work was not done"
done

$TRIFOLD run $machine --perf-map --append "quiet trifold.run=/bin/true" >"$TMP/out" 2>&1 </dev/null &
map=/tmp/perf-$!.map
wait $! || fail "status $? with --perf-map"
mv "$map" "$TMP/perf.map"

# Bad files are refused before the guest starts.
expect_status 125 $TRIFOLD run $machine --profile "$TMP/no/such/folder" --append "quiet"
expect_status 125 $TRIFOLD run $machine --symbols "$TMP/nowhere" --profile "$TMP/p" --append "quiet"
grep -q nowhere "$TMP/err" || fail "the line does not name the file"

python3 - "$TMP" "$1" <<'PYTHON'
import json, re, sys
tmp, paging = sys.argv[1:]
p = json.load(open(f"{tmp}/profile.json"))
views = {k: v for k, v in p.items() if "rows" in v}
assert p["profile"]["samples"] > 500, p["profile"]
assert p["profile"]["symbols"] > 10000, "the kernel's symbols were not found"
spent = p["profile"]["samples"] * p["profile"]["interval_ns"] / p["profile"]["vcpu_cpu_ns"]
assert 0.2 < spent < 5, f"samples stand for {spent:.2f} of the time"	# a host that is busy delays and merges them
for name, view in views.items():
    totals = [r["total"] for r in view["rows"]]
    assert sum(totals) + view["other"]["total"] == view["all"]["total"], f"{name}: rows do not add up"
    assert totals == sorted(totals, reverse=True), f"{name}: not ranked"
for name in ("spaces", "functions", "blocks"):
    assert views[name]["all"]["total"] == p["profile"]["samples"], f"{name}: not all samples"
for name in ("exits", "executor", "tlb_misses", "translations", "own"):
    assert views[name]["all"]["total"] > 0, f"{name}: empty"

functions = views["functions"]["rows"]
rank = {(r["who"], r["name"]): i for i, r in reversed(list(enumerate(functions)))}
assert rank.get(("hot", "hot_user_loop"), 99) < 2, functions[:3]
assert functions[rank["hot", "hot_user_loop"]]["total"] > 0.1 * p["profile"]["samples"]
clear = [i for (who, name), i in rank.items() if who == "kernel" and re.search("read_zero|clear_user|iov_iter_zero|rep_stos", name)]
assert clear and min(clear) < 6, [r["name"] for r in functions[:10]]
assert {"kernel", "hot"} <= {r["name"] for r in views["spaces"]["rows"]}
# What every system call runs, a sample or an exit here and there: which of these few instructions are met is chance.
system_call = "xen_hypercall_pv|(ksys|__x64_sys|vfs)_(read|write)" + ("" if paging == "direct" else "|do_syscall_64|entry_SYSCALL_64.*|x64_sys_call|syscall_return_via_sysret")
assert any(re.fullmatch(system_call, r["name"] or "") for r in views["exits"]["rows"] + functions), "no system calls"
assert views["executor"]["all"]["total"] == sum(r["total"] for r in views["executor"]["rows"])

text = open(f"{tmp}/profile.txt").read()
for name, view in views.items():
    assert view["title"] in text, f"{name} is missing in the text"
for title in ("Time by who ran", "Time by guest function (without a symbol: by page)", "Time in Trifold's own code"):
    table = text.split(title + "\n")[1].split("\n\n")[0]
    total = sum(float(m[1]) for m in re.finditer(r"^ *([\d.]+)% .*(?<!\(all\))$", table, re.M))
    assert 98 < total < 102, f"{title}: {total}%"
assert re.search(r"hot +hot_user_loop$", text, re.M)

lines = open(f"{tmp}/perf.map").read().splitlines()
assert all(re.fullmatch(r"[0-9a-f]+ [0-9a-f]+ guest:\S+", l) for l in lines), "perf would not read that"
assert any("guest:kernel:do_syscall_64+0x" in l for l in lines) and len(lines) > 10000
print(f"{p['profile']['samples']} samples, {len(functions)} functions, {len(lines)} pieces of code named")
PYTHON
