"""Sets that consist of items: a fixed piece of work each, done natively and on every system, in turns, with checksums that must agree."""
from lib.goals import verdict_of_item
from lib.session import BenchError, progress, run_items
from lib.stats import geomean, median
from lib.systems import DEBUG_EXIT_1, QEMU_MODELS, TITLES, TRIFOLD, command, variants

SYSTEMS = ["native", *TRIFOLD, "qemu"]


def measure(name, options, native_argv, image, memory, env=None):
    """
    {system: {variant: {item: {"cpu": [...], "wall": [...]}}}}, and the items' order. QEMU's rounds take turns with its processor models.
    """
    times, checks, order = {}, {}, []
    systems = [s for s in SYSTEMS if s in options.systems]
    for round_number in range(options.rounds):
        for system in systems:
            choices = variants(system)
            variant = choices[round_number % len(choices)]
            on_begin = lambda item: progress(f"{name}: round {round_number + 1} of {options.rounds}, {TITLES[system]} {variant}: {item}")
            on_begin("starting")
            if system == "native":
                found = run_items(native_argv, True, options.limit, on_begin, env)
            else:
                append = f"trifold.run=/bench/run.sh bench.set={name} bench.scale={options.scale} bench.only={','.join(options.items)}"
                found = run_items(command(system, variant, image, append, memory), False, options.limit, on_begin, status=DEBUG_EXIT_1)
            for item, (cpu, wall, check) in found.items():
                if checks.setdefault(item, (check, system))[0] != check:
                    raise BenchError(f"{name}: {item}: {TITLES[system]} computed {check}, {TITLES[checks[item][1]]} {checks[item][0]}")
                if item not in order:
                    order.append(item)
                slot = times.setdefault(system, {}).setdefault(variant, {}).setdefault(item, {"cpu": [], "wall": []})
                slot["cpu"].append(cpu)
                slot["wall"].append(wall)
    progress("")
    if not order:
        raise BenchError(f"{name}: no item of that name")
    return {"order": order, "times": times, "rounds": options.rounds, "scale": options.scale}


def best(data, system, item):
    """(model, times) of the variant with the smallest CPU time, or None."""
    choices = [(v, rows[item]) for v, rows in data["times"].get(system, {}).items() if item in rows]
    return min(choices, key=lambda c: min(c[1]["cpu"]), default=None)


def smallest(data, system, item, clock="cpu"):
    found = best(data, system, item)
    return min(found[1][clock]) if found else None


def ratio(data, item, system, base, clock="cpu"):
    a, b = smallest(data, system, item, clock), smallest(data, base, item, clock)
    return a / max(b, 1e-9) if a is not None and b is not None else None


def ratios(data, system, base, clock="cpu", items=None):
    """{item: time of SYSTEM / time of BASE} for the items that both have."""
    found = {i: ratio(data, i, system, base, clock) for i in items or data["order"]}
    return {i: r for i, r in found.items() if r is not None}


def cell(value, form="{:.2f}"):
    return "" if value is None else form.format(value)


def render(name, data):
    """The table of ratios: to native's CPU time, and how many times faster than QEMU; with each item's goals."""
    lines = ["| item | native, CPU | " + " | ".join(f"{TITLES[s]}" for s in SYSTEMS[1:]) + " | " +
             " | ".join(f"QEMU to {s}" for s in TRIFOLD) + " | goals |", "|---|---" + "|---:" * 5 + "|---|"]
    for item in data["order"]:
        native = smallest(data, "native", item)
        row = [item, cell(native and native * 1000, "{:.0f} ms")]
        row += [cell(ratio(data, item, s, "native")) for s in SYSTEMS[1:]]
        row += [cell(ratio(data, item, "qemu", s)) for s in TRIFOLD]
        lines.append("| " + " | ".join(row) + f" | {verdict_of_item(name, data, item)} |")
    for title, clock in (("geometric mean", "cpu"), ("geometric mean, by wall time", "wall")):
        means = [geomean(ratios(data, s, "native", clock).values()) for s in SYSTEMS[1:]] + \
                [geomean(ratios(data, "qemu", s, clock).values()) for s in TRIFOLD]
        lines.append(f"| **{title}** | | " + " | ".join("" if m != m else f"**{m:.2f}**" for m in means) + " | |")
    return lines


def render_details(data):
    """Every system's CPU and wall time, smallest and median, in milliseconds."""
    lines = ["| item | system | CPU, min | median | wall, min | median | rounds |", "|---|---|" + "---:|" * 5]
    for item in data["order"]:
        for system in SYSTEMS:
            for variant, rows in data["times"].get(system, {}).items():
                if item in rows:
                    cpu, wall = rows[item]["cpu"], rows[item]["wall"]
                    title = TITLES[system] + (f", {variant.split(',')[0]}" if variant else "")
                    figures = [f"{v * 1000:.1f}" for v in (min(cpu), median(cpu), min(wall), median(wall))]
                    lines.append(f"| {item} | {title} | " + " | ".join(figures) + f" | {len(cpu)} |")
    return lines
