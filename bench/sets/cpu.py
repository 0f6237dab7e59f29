"""cpu: user-level work that a kernel hardly sees (bench/guest/cpu_*.c)."""
from lib import items

TITLE = "Programs that only compute"
NOTE = ("The same static binary everywhere (bench/guest/cpu_*.c); ratios of CPU time, smallest of the rounds. Below 1 is faster than native. "
        "Columns *QEMU to* say how many times faster than QEMU TCG a mode is.")
render, details, check_goals, draw = items.views("cpu", TITLE)


def run(options):
    return items.measure_driver("cpu", options)
