#!/usr/bin/env python3
"""console.py TRIFOLD KERNEL INITRD PAGING: drives an interactive guest through a terminal of its own.

Types commands and compares what comes back, pastes faster than the guest reads, tries the Ctrl-a keys, and checks that the
terminal's settings are as they were however the run ends.
"""
import fcntl, os, pty, re, select, signal, subprocess, sys, termios, time
from pathlib import Path

trifold, kernel, initrd, paging = sys.argv[1:]


class Session:
    """A guest's shell on a pseudo-terminal whose settings we can see before and after."""

    def __init__(self, *extra):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        argv = [trifold, "run", "--kernel", kernel, "--initrd", initrd, "--paging", paging, "--append", "quiet", "--timeout", "100", *extra]
        self.child = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=subprocess.STDOUT, start_new_session=True,
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            self.text += os.read(self.master, 65536).decode(errors="replace")

    def expect(self, pattern, seconds=60, why=""):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if time.monotonic() > end:
                self.fail(f"no {pattern!r} within {seconds} s {why}")
            self.read(0.1)
        match = re.search(pattern, self.text)
        seen, self.text = self.text[:match.end()], self.text[match.end():]
        return seen

    def type(self, text):
        os.write(self.master, text.encode())

    def shell(self):
        self.expect(r"~ # ")
        return self

    def fail(self, why):
        print(f"FAILED: {why}; the terminal showed at last:\n{self.text[-2000:]}")
        self.child.kill()
        sys.exit(1)

    def end(self, status, seconds=20):
        end = time.monotonic() + seconds
        while self.child.poll() is None:
            self.read(0.05)
            if time.monotonic() > end:
                self.fail("trifold did not end")
        if self.child.returncode != status:
            self.fail(f"status {self.child.returncode}, not {status}")
        if termios.tcgetattr(self.slave) != self.before:
            self.fail("the terminal's settings are not as they were")
        os.close(self.master)
        os.close(self.slave)


def typing():
    """Characters are echoed as they are typed, commands answer, and job control works."""
    s = Session().shell()
    worst = 0.0
    for c in "echo fluent-$((6*7))":
        start = time.monotonic()
        s.type(c)
        s.expect(re.escape(c), 5, "(echo)")
        worst = max(worst, time.monotonic() - start)
    s.type("\n")
    s.expect("fluent-42")
    print(f"slowest echo: {worst * 1000:.1f} ms")
    if worst > 0.5:
        s.fail(f"an echo took {worst:.2f} s")
    s.type("sleep 100\n")
    time.sleep(1)
    s.type("\x03")	# Ctrl-c reaches the guest
    s.shell()
    s.type("stty -a | head -n 1; tty\n")
    s.expect("/dev/hvc0" if paging == "direct" else "/dev/ttyS0")
    # A paste longer than any FIFO arrives whole.
    s.type("stty -echo; echo read''y; cat >/tmp/pasted\n")
    s.expect("ready")
    time.sleep(0.5)
    lines = [f"line {i} of the paste, with some more words to make it long" for i in range(200)]
    for line in lines:
        s.type(line + "\n")
    s.type("\x04")
    s.type("stty echo; md5sum </tmp/pasted\n")
    import hashlib
    s.expect(hashlib.md5(("\n".join(lines) + "\n").encode()).hexdigest(), 30, "(paste)")
    # Much output, whole and in order.
    s.type("seq 1 20000; echo finished\n")
    seen = s.expect("\nfinished", 60)
    numbers = [int(n) for n in re.findall(r"^(\d+)\r?$", seen, re.M)]
    if numbers != list(range(1, 20001)):
        s.fail(f"output of seq is not whole: {len(numbers)} lines")
    s.type("exit\n")
    s.end(0)


def keys():
    """Ctrl-a h helps, Ctrl-a Ctrl-a reaches the guest as Ctrl-a, Ctrl-a x quits."""
    s = Session().shell()
    s.type("\x01h")
    s.expect("Ctrl-a x")
    s.type("cat -v\n")
    time.sleep(0.5)
    s.type("\x01\x01\n")
    s.expect(r"\^A\r?\n\^A", 10, "(Ctrl-a)")
    s.type("\x01x")
    s.end(0)


def signals():
    """Signals end the run with 128 + N and leave the terminal as it was, also early in the boot."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        s = Session().shell()
        s.child.send_signal(number)
        s.end(128 + number)
    s = Session()
    s.expect("engine bt")
    time.sleep(0.1)
    s.child.send_signal(signal.SIGTERM)
    s.end(128 + signal.SIGTERM)


def crash_of_ours():
    """A crash of trifold itself restores the terminal as well."""
    s = Session().shell()
    s.child.send_signal(signal.SIGSEGV)
    end = time.monotonic() + 20
    while s.child.poll() is None:
        s.read(0.05)
        if time.monotonic() > end:
            s.fail("trifold survived SIGSEGV")
    if s.child.returncode == 0:
        s.fail("status 0 after a crash")
    if termios.tcgetattr(s.slave) != s.before:
        s.fail("the terminal's settings are not as they were")


def suspended():
    """Stopped and continued, the terminal is given back and taken again."""
    s = Session().shell()
    raw = termios.tcgetattr(s.slave)
    s.child.send_signal(signal.SIGTSTP)
    end = time.monotonic() + 10
    while termios.tcgetattr(s.slave) != s.before:
        s.read(0.05)
        if time.monotonic() > end:
            s.fail("the terminal was not given back on SIGTSTP")
    # A stop that comes after SIGCONT would void it: a shell, too, continues only what has stopped.
    while Path(f"/proc/{s.child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        s.read(0.05)
        if time.monotonic() > end:
            s.fail("trifold did not stop on SIGTSTP")
    s.child.send_signal(signal.SIGCONT)
    while termios.tcgetattr(s.slave) != raw:
        s.read(0.05)
        if time.monotonic() > end:
            s.fail("the terminal was not taken again on SIGCONT")
    s.type("echo back-$((1+1))\n")
    s.expect("back-2")
    s.type("\x01x")
    s.end(0)


for scene in (typing, keys, signals, crash_of_ours, suspended):
    scene()
    print(f"ok: {scene.__doc__}")
