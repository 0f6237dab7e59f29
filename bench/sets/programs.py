"""programs: Debian's own, with fixed work (bench/guest/programs.sh)."""
import os, subprocess, tempfile
from lib import goals, items
from lib.systems import GUESTS

TITLE = "Debian's programs"
NOTE = ("gcc, interpreters, JITs, a database, compressors, ciphers and shell scripts (bench/guest/programs.sh): the host's own copies, natively and in an "
        "initramfs of 2 GiB guests; ratios of CPU time, smallest of the rounds. The first round, in which translators see everything for the first time, "
        "is in the list of all times.")


def run(options):
    script = str(GUESTS / "bench-program-root/bench/programs.sh")
    names = subprocess.run(["/usr/bin/bash", script, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        return items.measure("programs", options, names, ["/usr/bin/bash", script, "--ask"], GUESTS / "bench-programs.img", "2G",
                             env={**os.environ, "TMPDIR": work})


def render(data):
    return items.render("programs", data)


def details(data):
    return items.render_details(data)


def check_goals(data):
    return goals.goals_of_items("programs", data)
