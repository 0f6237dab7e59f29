"""memory: what a process holds beyond the pages that its guest has touched."""
import json, tempfile
from lib import boot
from lib.goals import MEMORY_BOOT, MEMORY_PROGRAMS
from lib.session import progress
from lib.systems import RESULTS, TITLES, TRIFOLD, variants

TITLE = "Memory"
NOTE = ("Peak resident memory of the process, and, for Trifold, what of it lies beyond the guest's own frames (a page that the guest never touched costs "
        "none). After boot: a guest that boots and powers off. After the programs: the guests in which the set *programs* ran.")


def run(options):
    rows = []
    systems = options.machines
    for size in ("512M", "4G"):
        for system in systems:
            progress(f"memory: {size}, {TITLES[system]}")
            with tempfile.NamedTemporaryFile(suffix=".json") as stats:
                extra = ["--stats", stats.name] if system in TRIFOLD else []
                session = boot.start(system, variants(system)[0], boot.end_of(system), options.limit, size, extra=extra).finish(0)
                rows.append(row_of("after boot", size, system, session.peak_kib, stats.name if extra else None))
    return {"rows": rows} if rows else None


def row_of(when, size, system, peak_kib, stats):
    own = json.load(open(stats))["host"]["guest_kib"] if stats else None
    return {"when": when, "size": size, "system": system, "peak": peak_kib / 1024, "own": own and own / 1024}


def all_rows(data):
    """Those of the set programs as well, if it has run."""
    path = RESULTS / "programs.json"
    return data["rows"] + (json.loads(path.read_text()).get("memory", []) if path.exists() else [])


def limit_of(row):
    if row["own"] is None:
        return None
    if row["when"] != "after boot":
        return MEMORY_PROGRAMS[0]
    return MEMORY_BOOT[0] if row["size"] == "512M" else None


def render(data):
    lines = ["| when | guest memory | system | peak of the process | guest's own | beyond it | goal |", "|---|---|---|---:|---:|---:|---|"]
    for row in all_rows(data):
        own, beyond, goal, limit = "", "", "", limit_of(row)
        if row["own"] is not None:
            own, beyond = f"{row['own']:.1f} MiB", f"{row['peak'] - row['own']:.1f} MiB"
        if limit:
            goal = f"{'met' if row['peak'] - row['own'] <= limit else 'not met'}: at most {limit:g} MiB"
        lines.append(f"| {row['when']} | {row['size']} | {TITLES[row['system']]} | {row['peak']:.1f} MiB | {own} | {beyond} | {goal} |")
    return lines


def check_goals(data):
    rows = []
    for (limit, title), when in ((MEMORY_BOOT, "after boot"), (MEMORY_PROGRAMS, "after the programs")):
        values = {r["system"]: r["peak"] - r["own"] for r in all_rows(data) if r["when"] == when and limit_of(r) == limit}
        if values:
            rows.append((title, f"at most {limit:g}", values, all(v <= limit for v in values.values()), []))
    return rows
