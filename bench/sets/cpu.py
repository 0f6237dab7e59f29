"""cpu: user-level work that a kernel hardly sees (bench/guest/cpu_*.c)."""
import subprocess
from lib import goals, items
from lib.systems import GUESTS

TITLE = "Programs that only compute"
NOTE = ("The same static binary everywhere (bench/guest/cpu_*.c); ratios of CPU time, smallest of the rounds. Below 1 is faster than native. "
        "Columns *QEMU to* say how many times faster than QEMU TCG a mode is.")


def run(options):
    program = str(GUESTS / "bench-root/bench/bench-cpu")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return items.measure("cpu", options, names, [program, "--ask", "--dir", "/dev/shm"], GUESTS / "bench.img", "1G")


def render(data):
    return items.render("cpu", data)


def details(data):
    return items.render_details(data)


def check_goals(data):
    return goals.goals_of_items("cpu", data)


def draw(data):
    return items.draw(TITLE, data)
