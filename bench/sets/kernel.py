"""kernel: system calls, switches, processes, page faults, files (bench/guest/kernel_*.c)."""
import subprocess
from lib import goals, items
from lib.systems import GUESTS

TITLE = "Work of the kernel"
NOTE = ("The same static binary everywhere (bench/guest/kernel_*.c), on one processor; ratios of CPU time, smallest of the rounds. On a virtual "
        "host, native system calls, faults and forks are slow themselves; a guest's never reach the host, so that ratios below 1 are "
        "possible. What counts is the comparison with QEMU.")


def run(options):
    program = str(GUESTS / "bench-root/bench/bench-kernel")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return items.measure("kernel", options, names, [program, "--ask", "--dir", "/dev/shm"], GUESTS / "bench.img", "1G")


def render(data):
    return items.render("kernel", data)


def details(data):
    return items.render_details(data)


def check_goals(data):
    return goals.goals_of_items("kernel", data)


def draw(data):
    return items.draw(TITLE, data)
