"""
The goals, as data, and whether results meet them. A ratio "to native" is CPU time over native's, at most; "faster" is QEMU's over
Trifold's, at least. Smallest of the rounds on both sides.
"""
from lib.ratios import ratio, ratios
from lib.stats import geomean
from lib.systems import TRIFOLD

# Items that some goals are about.
TAGS = {
    "vector": {"matrix", "bodies", "sse", "avx2"},
    "misses": {"switch-processes", "switch-threads", "touch-small", "touch-wide", "touch-far"},
    "switching": {"pipe-switch", "socket-switch", "thread-switch", "signal", "segv", "exec-static", "exec-dynamic"},
}

# set, measure, limit, what it is called, tag of the items that it is about (None: all).
ITEM_GOALS = [
    ("cpu", "native-mean", 1.6, "cpu: geometric mean, to native", None),
    ("cpu", "native-each", 3.0, "cpu: no item above, to native", None),
    ("cpu", "faster-mean", 3.5, "cpu: geometric mean, faster than QEMU", None),
    ("cpu", "faster-each", 1.2, "cpu: every item, faster than QEMU", None),
    ("cpu", "faster-each", 15.0, "cpu: floating point and vectors, faster than QEMU", "vector"),
    ("programs", "native-mean", 3.0, "programs: geometric mean, to native", None),
    ("programs", "native-each", 4.5, "programs: no item above, to native", None),
    ("programs", "faster-mean", 4.0, "programs: geometric mean, faster than QEMU", None),
    ("kernel", "faster-each", 2.0, "kernel: every item, faster than QEMU", None),
    ("kernel", "faster-each", 4.0, "kernel: switches, signals, fork and exec, faster than QEMU", "switching"),
    ("paging", "faster-each", 2.0, "paging: every item, faster than QEMU", None),
    ("paging", "faster-each", 5.0, "paging: context switches and TLB misses, faster than QEMU", "misses"),
]
# Goals of the other sets: limit at most, what it is called.
BOOT_SHARE = (1 / 3, "boot: time to /init, to QEMU's")
MEMORY_BOOT = (40.0, "memory: beyond the guest's own, MiB, 512 MiB guest after boot")
MEMORY_PROGRAMS = (96.0, "memory: beyond the guest's own, MiB, after the program set")
NESTED_EXIT = (1 / 2, "nested: an exit or page fault of L2, to QEMU's")
NESTED_BOOT = (1 / 3, "nested: L2 boots, to QEMU's")
IDLE_SHARE = (0.2, "idle: percent of a core")


def is_met(measure, value, limit):
    return value <= limit if measure.startswith("native") else value >= limit


def pair_of(measure, mode):
    """The systems whose ratio a goal is about."""
    return (mode, "native") if measure.startswith("native") else ("qemu", mode)


def worst_of(measure, values):
    return (max if measure.startswith("native") else min)(values)


def about(tag, item):
    return tag is None or item in TAGS[tag]


def verdict_of_item(name, data, item):
    """`met`, or what is missed, for the goals that single items have; the worse of Trifold's modes counts."""
    missed = []
    for goal_set, measure, limit, _, tag in ITEM_GOALS:
        if goal_set != name or not measure.endswith("each") or not about(tag, item):
            continue
        if tag is None and any(s == name and m == measure and t and item in TAGS[t] for s, m, _, _, t in ITEM_GOALS):
            continue  # the stricter goal says it
        found = [r for mode in TRIFOLD if (r := ratio(data, item, *pair_of(measure, mode))) is not None]
        if found:
            worst = worst_of(measure, found)
            if not is_met(measure, worst, limit):
                missed.append(f"{worst:.2f} to native, at most {limit:g}" if measure.startswith("native") else f"{worst:.2f} x QEMU, at least {limit:g}")
    return "not met: " + "; ".join(missed) if missed else "met"


def goals_of_items(name, data):
    """Rows (goal, limit, {mode: value}, met, which items miss it) for a set of items."""
    rows = []
    for goal_set, measure, limit, title, tag in ITEM_GOALS:
        if goal_set != name:
            continue
        values, misses = {}, []
        for mode in TRIFOLD:
            found = ratios(data, *pair_of(measure, mode), items=[i for i in data["order"] if about(tag, i)])
            if not found:
                continue
            if measure.endswith("mean"):
                values[mode] = geomean(found.values())
            else:
                values[mode] = worst_of(measure, found.values())
                misses += [i for i, r in found.items() if not is_met(measure, r, limit) and i not in misses]
        if values:
            sign = "at most" if measure.startswith("native") else "at least"
            rows.append((title, f"{sign} {limit:g}", values, all(is_met(measure, v, limit) for v in values.values()), misses))
    return rows
