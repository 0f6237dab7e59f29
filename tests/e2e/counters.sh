#!/bin/sh
# docs/stats.md names exactly the counters that a run writes, and they add up, however the run ends.
# each: nested shadow direct
. tests/e2e/lib/lib.sh
paging=$1
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $paging"
idle="quiet trifold.run=/tests/idle.sh"
expect_status 0 $TRIFOLD run $machine --stats "$TMP/off.json" --timeout 60 --append "quiet trifold.run=/bin/true"
expect_status 124 $TRIFOLD run $machine --stats "$TMP/timeout.json" --timeout 8 --append "$idle"
$TRIFOLD run $machine --stats "$TMP/signal.json" --timeout 60 --append "$idle" >"$TMP/out" 2>&1 </dev/null &
vm=$!
sleep 8
kill $vm
expect_end 143 "$TMP/out"
python3 - "$TMP" $paging <<'PYTHON'
import json, re, sys
tmp, paging = sys.argv[1:]
documented, group = {}, None
for line in open("docs/stats.md"):
    if m := re.match(r"## (\w+)$", line):
        group, name = documented.setdefault(m[1], set()), m[1]
    elif m := re.match(r"(Only|Not) with `--paging direct`", line):
        if (m[1] == "Only") != (paging == "direct"):
            del documented[name]
    elif m := re.match(r"\| `(\w+)` \|", line):
        group.add(m[1])
for name, status in (("off", 0), ("timeout", 124), ("signal", 143)):
    stats = json.load(open(f"{tmp}/{name}.json"))
    written = {group: set(members) for group, members in stats.items()}
    for group in documented.keys() | written.keys():
        for where, a, b in (("documented but not written", documented, written), ("written but not documented", written, documented)):
            extra = a.get(group, set()) - b.get(group, set())
            assert not extra, f"{where}: {group}: {sorted(extra)}"
    run, host, cpu, mmu = (stats[g] for g in ("run", "host", "cpu", "mmu"))
    assert run["status"] == status and run["paging"] == paging and run["memory_bytes"] == 512 << 20, run
    assert run["end"] == {"off": "power-off"}.get(name, name), run
    for must in ("interrupts_injected", "exceptions_injected", "syscalls") + (() if paging == "direct" else ("cr3_writes",)) + (("halts",) if name == "timeout" else ()):
        assert cpu[must] > 0, f"{name}: {must} is 0"
    for must in ("tlb_l1_misses", "tlb_fills", "walks", "walk_refs_guest", "guest_faults") + (() if paging == "direct" else ("hidden_not_backed",)):
        assert mmu[must] > 0, f"{name}: {must} is 0"
    if paging == "direct":
        for must in ("hypercalls", "multicalls", "syscalls_bounced", "exceptions_bounced", "upcalls", "irets", "emulated", "events_sent"):
            assert stats["xen"][must] > 0, f"{name}: {must} is 0"
        assert stats["pages"]["validations"] > 0 and stats["pages"]["refused_updates"] == 0, stats["pages"]
    assert (mmu["shadow_made"] > 0) == (paging == "shadow"), "shadow pages in the wrong mode"
    # Each write to a shadowed table is one hidden fault, and no device writes tables here.
    assert mmu["hidden_write_protected"] == mmu["table_writes"], (mmu["hidden_write_protected"], mmu["table_writes"])
    kinds = sum(host[k] for k in ("code_ns", "executor_ns", "translation_ns", "paging_ns", "devices_ns"))
    assert host["samples"] > 20, f"{host['samples']} samples"
    assert 0.9 < kinds / host["vcpu_cpu_ns"] < 1.001, f"times by kind: {kinds} of {host['vcpu_cpu_ns']}"
    assert host["vcpu_cpu_ns"] <= host["cpu_ns"]
    if name == "timeout":
        busy = (host["vcpu_cpu_ns"] + host["idle_ns"]) / host["wall_ns"]
        assert 8e9 <= host["wall_ns"] < 12e9 and busy < 1.05 and host["idle_ns"] > 0, f"running and idle are {busy:.2f} of the time"
print("all counters are documented")
PYTHON
