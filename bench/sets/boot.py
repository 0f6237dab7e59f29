"""boot: from the start of the process to /init's first script, and to power-off, with both of Debian's kernels."""
from lib import boot, plot
from lib.goals import BOOT_SHARE
from lib.session import progress
from lib.stats import median
from lib.systems import TITLES, TRIFOLD, choose_variant

TITLE = "Boot"
NOTE = ("Seconds from the start of the process until /init runs its script, and until the process has ended by power-off (QEMU's microvm, its "
        "machine that boots fastest, has none: there the guest reboots, and `-no-reboot` ends it). The same kernel, initramfs and command line, "
        "512 MiB; smallest of the rounds, median in brackets.")
KERNELS = ["cloud", "amd64"]
POINTS = {"init": "to /init", "end": "to power-off"}


def run(options):
    """times: {kernel: {system: {point: {clock: [seconds]}}}}; for QEMU of the model that boots faster."""
    times = {}
    systems = options.machines
    kernels = KERNELS[:1] if options.quick else KERNELS
    for round_number in range(options.rounds):
        for kernel in kernels:
            for system in systems:
                known = times.setdefault(kernel, {}).setdefault(system, {})
                variant = choose_variant(system, round_number, {v: points["init"]["cpu"] for v, points in known.items()})
                progress(f"boot: round {round_number + 1} of {options.rounds}, {kernel} kernel, {TITLES[system]} {variant}")
                session = boot.start(system, variant, boot.end_of(system), options.limit, kernel=kernel)
                wall, cpu = boot.wait_for(session, "bench-init")
                session.finish(0)
                slot = known.setdefault(variant, {p: {"cpu": [], "wall": []} for p in POINTS})
                for point, found in (("init", (cpu, wall)), ("end", (session.cpu, session.wall))):
                    for clock, value in zip(("cpu", "wall"), found):
                        slot[point][clock].append(value)
    if not systems:
        return None
    for rows in times.values():
        for system, known in rows.items():
            rows[system] = known[min(known, key=lambda v: min(known[v]["init"]["cpu"]))]
    return {"rounds": options.rounds, "times": times}


def share(rows, system, point, clock):
    return min(rows[system][point][clock]) / min(rows["qemu"][point][clock])


def render(data):
    lines = ["| kernel | system | to /init, CPU | wall | to power-off, CPU | wall | to /init, QEMU's = 1: CPU | wall | goal |",
             "|---|---|" + "---:|" * 6 + "---|"]
    for kernel, rows in data["times"].items():
        for system, points in rows.items():
            cells = [f"{min(points[p][c]):.2f} ({median(points[p][c]):.2f})" for p in POINTS for c in ("cpu", "wall")]
            goal, shares = "", [""] * 2
            if "qemu" in rows:
                both = [share(rows, system, "init", c) for c in ("cpu", "wall")]
                shares = [f"{s:.2f}" for s in both]
                if system in TRIFOLD:
                    goal = "met" if max(both) <= BOOT_SHARE[0] else "not met"
            lines.append(f"| {kernel} | {TITLES[system]} | " + " | ".join(cells + shares) + f" | {goal} |")
    return lines


def check_goals(data):
    rows = []
    for kernel, times in data["times"].items():
        for clock, title in (("cpu", "CPU"), ("wall", "wall")):
            if "qemu" not in times:
                continue
            values = {m: share(times, m, "init", clock) for m in TRIFOLD if m in times}
            rows.append((f"{BOOT_SHARE[1]}, {kernel} kernel, {title} time", f"at most {BOOT_SHARE[0]:.2f}", values,
                         all(v <= BOOT_SHARE[0] for v in values.values()), []))
    return rows


def draw(data):
    bars = [(f"{kernel} kernel, {POINTS[point]}", {s: min(points[point]["cpu"]) for s, points in rows.items()})
            for kernel, rows in data["times"].items() for point in POINTS]
    return plot.bars("Boot, seconds of CPU time", bars)
