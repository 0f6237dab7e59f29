#!/bin/sh
# A trace holds what the counters counted, its slices nest, threads and programs have names, and a bounded buffer loses with a count.
# each: nested shadow direct
# timeout: 200
. tests/e2e/lib/lib.sh
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $1 --debug-exit --timeout 60"
expect_status 0 $TRIFOLD run $machine --trace "$TMP/trace" --stats "$TMP/stats.json" --append "quiet trifold.run=/bin/true"
expect_status 0 $TRIFOLD run $machine --trace "$TMP/all" --trace-events miss,exec,cr3 --stats "$TMP/all.json" --append "quiet trifold.run=/bin/true"

expect_status 125 $TRIFOLD run $machine --trace "$TMP/no/such/folder" --append "quiet"
grep -q no/such/folder "$TMP/err" || fail "the line does not name the file"
expect_status 125 $TRIFOLD run $machine --trace "$TMP/x" --trace-events fault,dance --append "quiet"
grep -q dance "$TMP/err" || fail "the line does not name the event"
# A file that may not grow: the guest goes on, the status says it.
(ulimit -f 1000; expect_status 125 $TRIFOLD run $machine --trace "$TMP/small" --append "quiet trifold.run=/bin/true")
[ "$(grep -c "cannot write $TMP/small" "$TMP/err")" = 1 ] || { cat "$TMP/err"; fail "not one line about the full file"; }

python3 - "$TMP" "$1" <<'PYTHON'
import json, sys
sys.path.insert(0, "tests/e2e/lib")
import trace
tmp, paging = sys.argv[1:]
t, count, named = trace.load(f"{tmp}/trace")
stats = json.load(open(f"{tmp}/stats.json"))
assert t["otherData"]["run"] == stats["run"]["id"] and t["otherData"]["paging"] == paging
cats = {}
for (cat, name), n in count.items():
    cats[cat] = cats.get(cat, 0) + n
if not t["summary"]["lost"]:
    mmu, cpu = stats["mmu"], stats["cpu"]
    for name in ("not_backed", "not_present", "dirty"):
        seen = sum(e["args"]["counted"].count("hidden_" + name) for e in t["traceEvents"] if e.get("cat") == "fault")
        assert seen == mmu["hidden_" + name], (name, seen, mmu["hidden_" + name])
    guest = sum("guest_faults" in e["args"]["counted"] for e in t["traceEvents"] if e.get("cat") == "fault")
    assert guest == mmu["guest_faults"], (guest, mmu["guest_faults"])
    assert cats.get("table", 0) == mmu["table_writes"], (cats.get("table"), mmu["table_writes"])
    if paging == "direct":
        # Each hypercall is a slice, but for iret, which is in the trace as a return; a continued one is several.
        calls, xen = cats["hypercall"], stats["xen"]
        assert 0.99 * (xen["hypercalls"] - xen["irets"]) <= calls <= xen["hypercalls"] - xen["irets"], (calls, xen)
    else:
        # Each load of CR3 is an instant, each stay in an address space a slice; one load, the first, is before the trace.
        loads = count["cr3", "CR3 load"]
        assert loads == cpu["cr3_writes"], (loads, cpu["cr3_writes"])
    assert count["flush", "flush_invlpg"] == mmu["flush_invlpg"]
    calls = sum(n for (cat, _), n in count.items() if cat == "syscall")
    syscalls = stats["xen"]["syscalls_bounced"] if paging == "direct" else cpu["syscalls"]
    assert 0.9 * syscalls <= calls <= syscalls, (calls, syscalls)
    assert sum(n for (cat, name), n in count.items() if cat == "exception" and name[0] == "#") <= cpu["exceptions_injected"]
    assert cats["interrupt"] >= 0.9 * cpu["interrupts_injected"], (cats["interrupt"], cpu["interrupts_injected"])
names = {name for _, name in count}
upcall = "interrupt 0xf3" if paging == "direct" else "interrupt 0xec"
assert {"execve", "read", "wait4", "#PF", "guest fault", upcall} <= names, sorted(names)
assert paging != "direct" or {"mmu_update", "mmuext_op", "multicall"} <= names, sorted(names)
assert (paging == "shadow") == ("table write" in names)
events = t["traceEvents"]
assert any(e["name"] == "process_name" and e["args"]["name"].startswith("init, cr3 0x") for e in events), "no program has a name"
rips = [e["args"]["rip"] for e in events if "rip" in e.get("args", {})]
assert any(r[0].isalpha() and "+0x" in r for r in rips), "no kernel symbol"
results = [e["args"]["result"] for e in events if e["name"] == "read" and "result" in e["args"]]
assert results and all(-4096 < r < 1 << 20 for r in results)

t2, count2, _ = trace.load(f"{tmp}/all")
stats = json.load(open(f"{tmp}/all.json"))
execs = sum(n for (cat, _), n in count2.items() if cat == "exec")
misses = sum(n for (cat, _), n in count2.items() if cat == "miss")
lost = t2["summary"]["lost"]
assert execs <= stats["cpu"]["insns_executor"] <= execs + lost, (execs, lost, stats["cpu"]["insns_executor"])
assert misses > 0 and {cat for cat, _ in count2} <= {"exec", "miss", "cr3", "lost", "fault"}
print(f"{len(events)} events, {t['summary']['lost']} lost; all: {len(t2['traceEvents'])}, {lost} lost; {len(named)} tracks")
PYTHON
