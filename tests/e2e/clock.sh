#!/bin/sh
# Guest time and host time agree within 0.1% over 20 seconds, and the guest's calendar is the host's.
# alone
# each: nested shadow direct
. tests/e2e/lib/lib.sh
python3 - $TRIFOLD $GUESTS/vmlinuz $GUESTS/test.img $1 <<'PYTHON'
import re, subprocess, sys, time
trifold, kernel, initrd, paging = sys.argv[1:]
argv = [trifold, "run", "--kernel", kernel, "--initrd", initrd, "--paging", paging, "--debug-exit", "--timeout", "100",
        "--append", "quiet trifold.run=/tests/clock.sh"]
child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
seen = {"begin": [], "end": []}
for line in child.stdout:
    now, wall = time.monotonic(), time.time()
    print(line.rstrip())
    if m := re.match(r"clock (\w+) ([\d.]+) ([\d.]+)", line):
        seen[m[1]].append((float(m[2]), float(m[3]), now, wall))
assert child.wait() == 0, f"status {child.returncode}"
# A line can only come late, when the host has something else to do: of those at each end the one counts that took least.
begin, end = (min(marks, key=lambda mark: mark[2] - mark[0]) for marks in seen.values())
guest, host = end[0] - begin[0], end[2] - begin[2]
drift = guest / host - 1
away = end[1] - end[3]
print(f"guest {guest:.4f} s, host {host:.4f} s, drift {drift * 100:+.4f}%; calendar off by {away:+.3f} s")
assert abs(drift) < 0.001, "guest time drifts"
assert abs(away) < 2, "the guest's calendar is wrong"
PYTHON
