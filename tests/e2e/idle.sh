#!/bin/sh
# An idle guest costs next to nothing: under 0.5% of a core is the aim; a loaded host gets some grace before this fails.
# alone
# each: nested shadow direct
. tests/e2e/lib/lib.sh
python3 - $TRIFOLD $GUESTS/vmlinuz $GUESTS/test.img $1 <<'PYTHON'
import os, subprocess, sys, time
trifold, kernel, initrd, paging = sys.argv[1:]
argv = [trifold, "run", "--kernel", kernel, "--initrd", initrd, "--paging", paging, "--debug-exit", "--timeout", "90",
        "--append", "quiet trifold.run=/tests/idle.sh"]
child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
for line in child.stdout:
    if "guest: idle" in line:
        break
else:
    sys.exit("FAILED: the guest never became idle")
def seconds():
    fields = open(f"/proc/{child.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
time.sleep(3)
before, start = seconds(), time.monotonic()
time.sleep(15)
share = (seconds() - before) / (time.monotonic() - start) * 100
child.terminate()
child.wait()
print(f"idle guest: {share:.2f}% of a core")
assert share < 2, "an idle guest is not cheap"
PYTHON
