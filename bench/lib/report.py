"""Puts the results of all sets together: docs/benchmarks.md, docs/bench/details.md and the plots."""
import importlib, json, os, re, subprocess
from pathlib import Path
from lib.systems import QEMU, QEMU_MODELS, RESULTS, TOP, TRIFOLD

INTRODUCTION = """# Benchmarks

Written by `make bench`, which does the same work natively, under Trifold in each paging mode and under QEMU TCG. All systems are up at once and
take turns, item by item, so that a comparison is always between neighbours in time. Figures are ratios of CPU time (user and system, all threads of the
process), smallest of the rounds, unless it says otherwise: that suffers least from what else the host does. Every item's checksum
must be the same on all systems. All times, CPU and wall, smallest, median and first, are in [bench/details.md](bench/details.md).

QEMU runs on its `microvm`, with `-cpu {models}`; for each item the better model counts.

| command | what it does |
|---|---|
| `make bench` | all sets; writes this file, the plots and the details |
| `make bench BENCH='--only cpu,boot --rounds 3'` | some sets; prints, writes nothing |
| `make bench BENCH='--only cpu --items crc32,fib --systems native,nested'` | some items on some systems |
| `make bench BENCH=--quick` | a short look at everything |
| `make bench BENCH=--render` | writes this file again from the last results of each set |

A set is a file of `bench/sets`; an item of *cpu* or *kernel* is a function under `bench/guest` and a row of `cpu_items.c` or `kernel_items.c`; an item of
*programs* is a line of `programs.sh`. Goals are rows in `bench/lib/goals.py`. `build/guests/bench-root/bench/bench-cpu --only crc32` runs one
item by itself, anywhere.
"""


def host_text():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    return f"{model[1] if model else 'unknown processor'}, {os.cpu_count()} CPUs; {version}; load {os.getloadavg()[0]:.1f} at the end"


def goal_lines(rows):
    lines = ["| goal | limit | nested | shadow | | missed by |", "|---|---|---:|---:|---|---|"]
    for title, limit, values, met, misses in rows:
        shown = [f"{values[m]:.2f}" if m in values else "" for m in TRIFOLD]
        lines.append(f"| {title} | {limit} | {shown[0]} | {shown[1]} | {'met' if met else '**not met**'} | {', '.join(misses)} |")
    return lines


def section(name, module, data, picture=None):
    lines = [f"## {module.TITLE}", "", module.NOTE, ""]
    if picture:
        lines += [f"![{module.TITLE}]({picture})", ""]
    lines += module.render(data) + [""]
    rows = module.check_goals(data)
    if rows and picture is None:
        lines += goal_lines(rows) + [""]
    rounds = f"{data['rounds']} rounds in " if "rounds" in data else ""
    command = f" (`{data['command']}`)" if data.get("command") else ""
    return lines + [f"{rounds}{data['seconds']:.0f} s{command}. {data['host']}.", ""]


def write(names):
    docs = TOP / "docs"
    (docs / "bench").mkdir(parents=True, exist_ok=True)
    sections, details, goals = [], ["# All times", "", "Milliseconds; written by `make bench` beside [benchmarks.md](../benchmarks.md).", ""], []
    for name in names:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        module, data = importlib.import_module(f"sets.{name}"), json.loads(path.read_text())
        picture = None
        if hasattr(module, "draw"):
            (docs / f"bench/{name}.svg").write_text(module.draw(data))
            picture = f"bench/{name}.svg"
        sections += section(name, module, data, picture or "")
        goals += module.check_goals(data)
        if hasattr(module, "details"):
            details += [f"## {module.TITLE}", ""] + module.details(data) + [""]
    text = INTRODUCTION.format(models="` and `".join(QEMU_MODELS)).splitlines() + ["", "## Goals", ""] + goal_lines(goals) + [""] + sections
    (docs / "benchmarks.md").write_text("\n".join(text).rstrip() + "\n")
    (docs / "bench/details.md").write_text("\n".join(details).rstrip() + "\n")
