"""idle: what a guest costs that has nothing to do."""
import time
from lib import boot
from lib.goals import IDLE_SHARE
from lib.session import cpu_seconds, progress
from lib.systems import TITLES, TRIFOLD, variants

TITLE = "Idle"
NOTE = "Host CPU time of the process, as a share of one core, while its guest sleeps; all systems over the same seconds. Each was up for five seconds before."


def run(options):
    seconds, systems = (5 if options.quick else 20), options.machines
    if not systems:
        return None
    sessions = {}
    try:
        for system in systems:
            progress(f"idle: starting {TITLES[system]}")
            sessions[system] = boot.start(system, variants(system)[0], "wait", options.limit)
        for session in sessions.values():
            boot.wait_for(session, "bench-idle")
        time.sleep(2)
        begin = {s: (cpu_seconds(x.pid), time.monotonic()) for s, x in sessions.items()}
        for second in range(seconds):
            progress(f"idle: {second} of {seconds} s")
            time.sleep(1)
        shares = {s: 100 * (cpu_seconds(x.pid) - begin[s][0]) / (time.monotonic() - begin[s][1]) for s, x in sessions.items()}
    finally:
        for session in sessions.values():
            session.stop()
    return {"span": seconds, "shares": shares}


def render(data):
    lines = ["| system | percent of a core | goal |", "|---|---:|---|"]
    for system, share in data["shares"].items():
        goal = ("met" if share <= IDLE_SHARE[0] else "not met") if system in TRIFOLD else ""
        lines.append(f"| {TITLES[system]} | {share:.3f} | {goal} |")
    return lines + ["", f"Over {data['span']} s."]


def check_goals(data):
    values = {m: data["shares"][m] for m in TRIFOLD if m in data["shares"]}
    return [(IDLE_SHARE[1], f"at most {IDLE_SHARE[0]:g}", values, all(v <= IDLE_SHARE[0] for v in values.values()), [])] if values else []
