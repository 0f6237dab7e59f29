"""nested: guests that are hypervisors: KVM in the guest runs guests of its own, with nested paging (npt=1) and by shadow tables (npt=0)."""
import re
from lib.goals import NESTED_BOOT, NESTED_EXIT
from lib.session import BenchError, Session, progress
from lib.stats import median
from lib.systems import GUESTS, TITLES, TRIFOLD, choose_variant, command

TITLE = "Nested virtualization"
NOTE = ("Debian's kvm_amd in a guest of 1 GiB. Exit: L2 writes to a port, and the user of /dev/kvm gets and resumes it; touch: L2's first write to a page of memory that its hypervisor has: microseconds "
        "by the clock of the guest. Boot: QEMU in the guest, from its start to its end, with Debian's kernel as L2, which goes to user land and powers off: seconds. Smallest of the rounds, median in brackets.")
POINTS = {"exit": "exit, us", "touch": "touch, us", "boot-cpu": "boot, CPU s", "boot-wall": "boot, wall s"}
NPT = (1, 0)


def start(system, variant, image, append, limit):
    extra = [] if system == "qemu" else ["--svm"]
    # On QEMU's microvm KVM loads, but its first guest never ends.
    return Session(command(system, variant + ",+svm" if variant else "", GUESTS / image, append, "1G", extra=extra, machine="pc"), limit)


def finish(session):
    session.finish()
    if "guest: all done" not in session.text:
        raise BenchError(f"its script did not reach its end: {session}")


def measure_exits(system, variant, limit):
    """{npt: {"exit": us, "touch": us}}, the smallest that the guest saw."""
    session, npt, found = start(system, variant, "kvm.img", "trifold.run=/tests/kvm-bench.sh", limit), None, {}
    while line := session.line():
        if m := re.match(r"npt=(\d)$", line[0]):
            npt = int(m[1])
        elif m := re.match(r"kvm: \d+ (exit|touche)s, ([0-9.]+) us each$", line[0]):
            times = found.setdefault(npt, {})
            point = m[1].removesuffix("e")
            times[point] = min(float(m[2]), times.get(point, 1e9))
    finish(session)
    return found


def measure_boot(system, variant, npt, limit):
    """{"boot-cpu": s, "boot-wall": s}."""
    session, begin = start(system, variant, "qemu.img", f"trifold.run=/tests/qemu.sh qemu.npt={npt}", limit), None
    times = None
    while found := session.line():
        line, wall, cpu = found
        if line.endswith("QEMU begins"):  # SeaBIOS, before it, clears the screen
            begin = wall, cpu
        elif line.startswith("QEMU ended with 0") and begin:
            times = {"boot-wall": wall - begin[0], "boot-cpu": cpu - begin[1]}
    finish(session)
    if not times or "L2 is in user land" not in session.text:
        raise BenchError(f"L2 did not boot: {session}")
    return times


def run(options):
    """times: {npt: {system: {point: [values]}}}; for QEMU of the model that boots L2 faster."""
    times, systems = {npt: {} for npt in NPT}, options.machines
    if not systems:
        return None
    for round_number in range(options.rounds):
        for system in systems:
            known = {v: p["boot-cpu"] for v, p in times[1].get(system, {}).items()}
            variant = choose_variant(system, round_number, known)
            progress(f"nested: round {round_number + 1} of {options.rounds}, {TITLES[system]} {variant}")
            exits = measure_exits(system, variant, options.limit)
            for npt in NPT:
                points = times[npt].setdefault(system, {}).setdefault(variant, {p: [] for p in POINTS})
                for point, value in (exits[npt] | measure_boot(system, variant, npt, options.limit)).items():
                    points[point].append(value)
    for rows in times.values():
        for system, known in rows.items():
            rows[system] = known[min(known, key=lambda v: min(known[v]["boot-cpu"]))]
    return {"rounds": options.rounds, "times": {str(npt): rows for npt, rows in times.items()}}


def share(rows, system, point):
    return min(rows[system][point]) / min(rows["qemu"][point])


def render(data):
    lines = ["| KVM in the guest | system | " + " | ".join(POINTS.values()) + " | QEMU's = 1: " + " | ".join(POINTS) + " |", "|---|---|" + "---:|" * (2 * len(POINTS))]
    for npt, rows in data["times"].items():
        for system, points in rows.items():
            cells = [f"{min(points[p]):.2f} ({median(points[p]):.2f})" for p in POINTS]
            shares = [f"{share(rows, system, p):.2f}" if "qemu" in rows else "" for p in POINTS]
            lines.append(f"| npt={npt} | {TITLES[system]} | " + " | ".join(cells + shares) + " |")
    return lines


def check_goals(data):
    result = []
    for npt, rows in data["times"].items():
        for point, (limit, title) in {"exit": NESTED_EXIT, "touch": NESTED_EXIT, "boot-cpu": NESTED_BOOT, "boot-wall": NESTED_BOOT}.items():
            values = {m: share(rows, m, point) for m in TRIFOLD if m in rows and "qemu" in rows}
            if values:
                result.append((f"{title}, npt={npt}, {point}", f"at most {limit:.2f}", values,
                               all(v <= limit for v in values.values()), []))
    return result
