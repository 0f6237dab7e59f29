"""Sets that consist of items: a fixed piece of work each, done natively and on every system, in turns, with checksums that must agree."""
import subprocess
from lib import plot
from lib.goals import goals_of_items, verdict_of_item
from lib.ratios import ratio, ratios, smallest
from lib.session import BenchError, Worker, progress
from lib.stats import geomean, median
from lib.systems import DEBUG_EXIT_1, GUESTS, SYSTEMS, TITLES, TRIFOLD, choose_variant, command, variants


def start_workers(name, options, native_argv, image, memory, env, extra):
    workers = {}
    try:
        for system in options.systems:
            for variant in variants(system):
                progress(f"{name}: starting {TITLES[system]} {variant}")
                if system == "native":
                    argv, status = native_argv, 0
                else:
                    more = extra(system) if system in TRIFOLD else []
                    argv, status = command(system, variant, image, f"trifold.run=/bench/run.sh bench.set={name}", memory, extra=more), DEBUG_EXIT_1
                workers[system, variant] = Worker(argv, system == "native", options.limit, env if system == "native" else None, status)
    except BaseException:
        for worker in workers.values():
            worker.stop()
        raise
    return workers


def names_of(*argv):
    return subprocess.run([*argv, "--list"], capture_output=True, text=True, check=True).stdout.split()


def measure_driver(name, options):
    """The items of a program that bench/guest/driver.c drives."""
    program = str(GUESTS / f"bench-root/bench/bench-{name}")
    return measure(name, options, names_of(program), [program, "--ask", "--dir", "/dev/shm"], GUESTS / "bench.img", "1G")


def measure(name, options, names, native_argv, image, memory, env=None, extra=lambda system: []):
    """
    {system: {variant: {item: {"cpu": [...], "wall": [...]}}}}. All systems are up at once, and take turns item by item, so that
    each comparison is between neighbours in time; a virtual machine that has nothing to do costs nothing. Of QEMU's processor models each
    item goes on with the one that is better for it.
    """
    names = [n for n in names if not options.items or n in options.items]
    if not names:
        return None
    times, checks, skipped = {}, {}, set()
    workers = start_workers(name, options, native_argv, image, memory, env, extra)
    try:
        for round_number in range(options.rounds):
            for item in names:
                for system in options.systems:
                    if (item, system) in skipped:
                        continue
                    known = {v: rows[item]["cpu"] for v, rows in times.get(system, {}).items() if item in rows}
                    variant = choose_variant(system, round_number, known)
                    progress(f"{name}: round {round_number + 1} of {options.rounds}, {item}, {TITLES[system]} {variant}")
                    sample = workers[system, variant].ask(item, options.scale)
                    if not sample:
                        skipped.add((item, system))
                        continue
                    cpu, wall, check = sample
                    if checks.setdefault(item, (check, system))[0] != check:
                        raise BenchError(f"{name}: {item}: {TITLES[system]} computed {check}, {TITLES[checks[item][1]]} {checks[item][0]}")
                    slot = times.setdefault(system, {}).setdefault(variant, {}).setdefault(item, {"cpu": [], "wall": []})
                    slot["cpu"].append(cpu)
                    slot["wall"].append(wall)
        peaks = {}
        for (system, variant), worker in workers.items():
            worker.close()
            peaks[system] = max(peaks.get(system, 0), worker.session.peak_kib)
            for slot in times.get(system, {}).get(variant, {}).values():
                slot["wall"] = [w * worker.scale for w in slot["wall"]]
    finally:
        for worker in workers.values():
            worker.stop()
    progress("")
    order = [n for n in names if n in checks]
    return {"order": order, "times": times, "rounds": options.rounds, "scale": options.scale, "peaks": peaks}


def cell(value, form="{:.2f}"):
    return "" if value is None else form.format(value)


def render(name, data, systems=SYSTEMS):
    """The table of ratios: to native's CPU time, and how many times faster than QEMU; with each item's goals."""
    modes = [s for s in systems if s not in ("native", "qemu")]
    lines = ["| item | native, CPU | " + " | ".join(f"{TITLES[s]}" for s in systems[1:]) + " | " +
             " | ".join(f"QEMU to {s}" for s in modes) + " | goals |", "|---|---" + "|---:" * (len(systems) - 1 + len(modes)) + "|---|"]
    for item in data["order"]:
        native = smallest(data, "native", item)
        row = [item, cell(native and native * 1000, "{:.0f} ms")]
        row += [cell(ratio(data, item, s, "native")) for s in systems[1:]]
        row += [cell(ratio(data, item, "qemu", s)) for s in modes]
        lines.append("| " + " | ".join(row) + f" | {verdict_of_item(name, data, item)} |")
    for title, clock in (("geometric mean", "cpu"), ("geometric mean, by wall time", "wall")):
        means = [geomean(ratios(data, s, "native", clock).values()) for s in systems[1:]] + \
                [geomean(ratios(data, "qemu", s, clock).values()) for s in modes]
        lines.append(f"| **{title}** | | " + " | ".join("" if m != m else f"**{m:.2f}**" for m in means) + " | |")
    return lines


def render_details(data, systems=SYSTEMS):
    """Every system's CPU and wall time, smallest, median and that of the first round, in milliseconds."""
    lines = ["| item | system | CPU, min | median | first | wall, min | median | first | rounds |", "|---|---|" + "---:|" * 7]
    for item in data["order"]:
        for system in systems:
            for variant, rows in data["times"].get(system, {}).items():
                if item in rows:
                    cpu, wall = rows[item]["cpu"], rows[item]["wall"]
                    title = TITLES[system] + (f", {variant.split(',')[0]}" if variant else "")
                    figures = [f"{v * 1000:.1f}" for v in (min(cpu), median(cpu), cpu[0], min(wall), median(wall), wall[0])]
                    lines.append(f"| {item} | {title} | " + " | ".join(figures) + f" | {len(cpu)} |")
    return lines


def draw(title, data, systems=SYSTEMS):
    """Items by how far QEMU is from native, the largest first; the geometric mean on top."""
    rows = [(item, {s: r for s in systems[1:] if (r := ratio(data, item, s, "native")) is not None}) for item in data["order"]]
    rows.sort(key=lambda row: -row[1].get("qemu", max(row[1].values(), default=0)))
    means = {s: geomean(ratios(data, s, "native").values()) for s in systems[1:] if ratios(data, s, "native")}
    return plot.dots(f"{title}: CPU time, native = 1", [("geometric mean", means), *rows], systems[1:])


def views(name, title, systems=SYSTEMS):
    """What such a set has beside run(): render, details, check_goals and draw."""
    return ((lambda data: render(name, data, systems)), (lambda data: render_details(data, systems)), (lambda data: goals_of_items(name, data)),
            (lambda data: draw(title, data, systems)))
