"""Guests that are booted and do nothing else (bench/guest/boot.sh)."""
from lib.session import BenchError, Session
from lib.systems import GUESTS, command

LIMIT = 120  # seconds in which such a guest says something
IMAGE = GUESTS / "bench-boot.img"


def start(system, variant, end, limit, memory="512M", kernel="cloud", extra=()):
    append = f"trifold.run=/bench/boot.sh bench.end={end}"
    return Session(command(system, variant, IMAGE, append, memory, kernel, extra), min(limit, LIMIT))


def wait_for(session, text):
    """(wall, CPU) at the moment when the session prints TEXT; both since its start."""
    while found := session.line():
        line, wall, cpu = found
        if line.endswith(text):
            return wall - session.start, cpu
    session.stop()
    raise BenchError(f"it never said {text}: {session}")


def end_of(system):
    """How a guest ends: QEMU's microvm has no power-off, but -no-reboot ends it."""
    return "reboot" if system == "qemu" else "poweroff"
