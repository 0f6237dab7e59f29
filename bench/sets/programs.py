"""programs: Debian's own, with fixed work (bench/guest/programs.sh)."""
import os, tempfile
from lib import items
from lib.systems import GUESTS, TRIFOLD
from sets import memory

TITLE = "Debian's programs"
NOTE = ("gcc, interpreters, JITs, a database, compressors, ciphers and shell scripts (bench/guest/programs.sh): the host's own copies, natively and in an "
        "initramfs of 2 GiB guests; ratios of CPU time, smallest of the rounds. The first round, in which translators see everything for the first time, "
        "is in the list of all times.")
QUICK = ["python", "luajit", "shell", "unxz"]
render, details, check_goals, draw = items.views("programs", TITLE)


def run(options):
    script = str(GUESTS / "bench-program-root/bench/programs.sh")
    names = QUICK if options.quick else items.names_of("/usr/bin/bash", script)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        stats = {mode: f"{work}/{mode}.json" for mode in TRIFOLD}
        data = items.measure("programs", options, names, ["/usr/bin/bash", script, "--ask"], GUESTS / "bench-programs.img", "2G",
                             env={**os.environ, "TMPDIR": work}, extra=lambda mode: ["--stats", stats[mode]])
        if data:
            data["memory"] = [memory.row_of("after the programs", "2G", s, peak, stats.get(s)) for s, peak in data["peaks"].items() if s != "native"]
    return data
