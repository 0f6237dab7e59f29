"""Runs one process (a virtual machine, or a measured program natively) and takes the times of what it prints."""
import os, re, select, subprocess, sys, time


class BenchError(Exception):
    pass


def progress(text):
    """One line on a terminal, overwritten by the next."""
    if sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)


def cpu_seconds(pid):
    """User and system time of all threads of a process, exact: Linux's CPU clock of another process."""
    return time.clock_gettime(~pid << 3 | 2)


class Session:
    """A process; lines() yields (line, wall, CPU) as lines arrive; afterwards status, cpu, wall, peak_kib, text are known."""

    def __init__(self, argv, limit, env=None):
        self.argv, self.limit, self.text = argv, limit, ""
        self.start = time.monotonic()
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)

    def lines(self):
        fd, rest = self.child.stdout.fileno(), b""
        while True:
            left = self.start + self.limit - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                self.stop()
                raise BenchError(f"no end after {self.limit} s: {' '.join(self.argv)}\n{self.text[-1500:]}")
            data = os.read(fd, 65536)
            wall, cpu = time.monotonic(), cpu_seconds(self.child.pid)
            if not data:
                break
            self.text += data.decode(errors="replace")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace").strip(), wall, cpu
        self.finish()

    def finish(self):
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.stdout.close()
        self.wall = time.monotonic() - self.start
        self.status = self.child.returncode = os.waitstatus_to_exitcode(status)
        self.cpu, self.peak_kib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss

    def stop(self):
        self.child.kill()
        self.finish()

    def run(self):
        for _ in self.lines():
            pass
        return self

    def expect(self, status):
        if self.status != status:
            raise BenchError(f"status {self.status}, not {status}: {' '.join(self.argv)}\n{self.text[-1500:]}")
        return self


def run_items(argv, native, limit, on_begin=lambda name: None, env=None, status=0):
    """
    {item: (CPU seconds, wall seconds, checksum)} of a program that prints what bench/guest/report.h describes.

    Natively the program's own clocks are right. In a guest CPU time is the virtual machine's, sampled when the lines of an
    item arrive; wall time is by the guest's clock, corrected by what it says of the whole run, since some emulators' clocks run wrong.
    """
    session, found, began, clock = Session(argv, limit, env), {}, None, {}
    for line, wall, cpu in session.lines():
        if m := re.search(r"bench-begin (\S+)$", line):
            began = (m[1], cpu)
            on_begin(m[1])
        elif m := re.search(r"bench-end (\S+) (\d+) (\d+) ([0-9a-f]+)$", line):
            if not began or began[0] != m[1]:
                raise BenchError(f"{m[1]} ended without having begun: {' '.join(argv)}")
            found[m[1]] = (int(m[3]) / 1e9 if native else cpu - began[1], int(m[2]) / 1e9, m[4])
        elif m := re.search(r"bench-clock (\w+) (\d+)$", line):
            clock[m[1]] = (int(m[2]) / 1e9, wall)
        elif "bench-fail" in line:
            session.stop()
            raise BenchError(f"{line}: {' '.join(argv)}")
    session.expect(status)
    if len(clock) != 2:
        raise BenchError(f"it never said its clock's end: {' '.join(argv)}\n{session.text[-1500:]}")
    scale = 1 if native else (clock["end"][1] - clock["begin"][1]) / (clock["end"][0] - clock["begin"][0])
    return {name: (cpu, wall * scale, check) for name, (cpu, wall, check) in found.items()}
