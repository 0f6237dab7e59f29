"""kernel: system calls, switches, processes, page faults, files (bench/guest/kernel_*.c)."""
from lib import items

TITLE = "Work of the kernel"
NOTE = ("The same static binary everywhere (bench/guest/kernel_*.c), on one processor; ratios of CPU time, smallest of the rounds. On a virtual "
        "host, native system calls, faults and forks are slow themselves; a guest's never reach the host, so that ratios below 1 are "
        "possible. What counts is the comparison with QEMU.")
render, details, check_goals, draw = items.views("kernel", TITLE)


def run(options):
    return items.measure_driver("kernel", options)
