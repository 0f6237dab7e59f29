"""Runs one process (a virtual machine, or a measured program natively) and takes the times of what it prints."""
import atexit, os, re, select, signal, subprocess, sys, time


class BenchError(Exception):
    pass


running = set()  # sessions whose process has not been waited for


@atexit.register
def stop_all():
    for session in list(running):
        session.stop()


def progress(text):
    """One line on a terminal, overwritten by the next."""
    if sys.stderr.isatty():
        print("\r\033[K" + text[:150], end="", file=sys.stderr, flush=True)


def cpu_seconds(pid):
    """User and system time of all threads of a process, exact: Linux's CPU clock of another process."""
    return time.clock_gettime(~pid << 3 | 2)


class Session:
    """A process. line() gives what it prints, one by one, with the times of arrival; after its end status, cpu, wall, peak_kib and text are known."""

    def __init__(self, argv, limit, env=None, listens=False):
        self.argv, self.limit, self.text, self.rest, self.ready, self.status = argv, limit, "", b"", [], None
        self.start = time.monotonic()
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE if listens else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, env=env)
        self.pid = self.child.pid
        running.add(self)

    def line(self, limit=None):
        """(line, wall, CPU seconds of the process), or None at the end of its output."""
        deadline = time.monotonic() + (limit or self.limit)
        while not self.ready:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.child.stdout], [], [], left)[0]:
                self.stop()
                raise BenchError(f"nothing more after {limit or self.limit} s: {self}")
            data = os.read(self.child.stdout.fileno(), 65536)
            wall, cpu = time.monotonic(), cpu_seconds(self.pid)
            if not data:
                return None
            self.text += data.decode(errors="replace")
            *lines, self.rest = (self.rest + data).split(b"\n")
            self.ready = [(line.decode(errors="replace").strip(), wall, cpu) for line in lines]
        return self.ready.pop(0)

    def say(self, text):
        self.child.stdin.write((text + "\n").encode())
        self.child.stdin.flush()

    def finish(self, status=None):
        """Reads to the end and waits; a status other than the one that is expected is an error."""
        while self.line():
            pass
        self.collect()
        if status is not None and self.status != status:
            raise BenchError(f"status {self.status}, not {status}: {self}")
        return self

    def collect(self):
        _, status, usage = os.wait4(self.pid, 0)
        running.discard(self)
        self.wall = time.monotonic() - self.start
        for stream in (self.child.stdout, self.child.stdin):
            if stream:
                stream.close()
        self.status = self.child.returncode = os.waitstatus_to_exitcode(status)
        self.cpu, self.peak_kib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss

    def stop(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)  # child.kill() would wait for one that has ended, and keep its usage from collect()
            self.collect()

    def __str__(self):
        return f"{' '.join(self.argv)}\n{self.text[-1500:]}"


TRIES = 4  # of an item whose lines were read too late


class Worker:
    """
    A session whose program does the items that it is asked for (bench/guest/report.h says what it prints).

    Natively the program's own clocks are right. In a guest CPU time is the virtual machine's, sampled when the lines of an item
    arrive; wall time is by the guest's clock, and corrected in the end by what it says of the whole run, since some emulators' clocks run wrong.
    """

    def __init__(self, argv, native, limit, env=None, status=0):
        self.session, self.native, self.status, self.scale = Session(argv, limit, env, listens=True), native, status, 1
        self.begin = self.expect(r"bench-clock begin (\d+)$")

    def expect(self, pattern):
        while found := self.session.line():
            line, wall, cpu = found
            if m := re.search(pattern, line):
                return m, wall, cpu
            if "bench-fail" in line:
                break
        self.session.stop()
        raise BenchError(f"it ended before its time: {self.session}")

    def ask(self, item, scale):
        """(CPU seconds, uncorrected wall seconds, checksum), or None if this system cannot do the item."""
        for _ in range(TRIES):
            self.session.say(f"{item} {scale}")
            m, begun, begin = self.expect(rf"bench-(begin|skip) {re.escape(item)}$")
            if m[1] == "skip":
                return None
            m, ended, end = self.expect(rf"bench-end {re.escape(item)} (\d+) (\d+) ([0-9a-f]+)$")
            wall = int(m[1]) / 1e9
            # On a busy host a line may be read so late that the work has begun: then the sample is too short, and so is the time between the lines.
            if self.native or ended - begun > 0.9 * wall:
                break
        return int(m[2]) / 1e9 if self.native else end - begin, wall, m[3]

    def close(self):
        """Ends it; scale is what its wall times are to be multiplied with."""
        self.session.say("end")
        m, wall, _ = self.expect(r"bench-clock end (\d+)$")
        if not self.native:
            self.scale = (wall - self.begin[1]) / ((int(m[1]) - int(self.begin[0][1])) / 1e9)
        self.session.finish(self.status)

    def stop(self):
        self.session.stop()
