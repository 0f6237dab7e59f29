#!/bin/sh
# A running VM answers on its control socket, whatever its clients do, and removes the socket at the end.
# timeout: 200
# each: nested shadow
. tests/e2e/lib/lib.sh
paging=$1
machine="--kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $paging"

# refused WORD COMMAND...: status 125 and one line that holds WORD.
refused() {
	word=$1
	shift
	expect_status 125 "$@"
	[ "$(grep -c . "$TMP/err")" = 1 ] && grep -q -e "$word" "$TMP/err" || { cat "$TMP/err"; fail "not one line with '$word': $*"; }
}

: >"$TMP/file"
refused "$TMP/file" $TRIFOLD run $machine --control "$TMP/file"
[ -f "$TMP/file" ] || fail "the file in the way was removed"
refused "$TMP/none/s" $TRIFOLD run $machine --control "$TMP/none/s"
refused "bytes" $TRIFOLD run $machine --control "$TMP/$(printf '%0120d' 0)"
refused "such socket" $TRIFOLD ctl "$TMP/nowhere" stats
refused "missing" $TRIFOLD ctl "$TMP/nowhere"
# What a killed run leaves behind is taken over.
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$socket"
refused "listens" $TRIFOLD ctl "$socket" stats

$TRIFOLD run $machine --control "$socket" --stats "$TMP/stats.json" --timeout 150 --append "quiet trifold.run=/tests/busy.sh" \
	>"$TMP/guest" 2>"$TMP/guest.err" </dev/null &
vm=$!
wait_until grep -q "guest: busy" "$TMP/guest" || { cat "$TMP/guest.err"; fail "the guest does not come up"; }
[ "$(stat -c %a "$socket")" = 600 ] || fail "the socket is open to others"
refused "another program" $TRIFOLD run $machine --control "$socket"
ctl help >"$TMP/help"
for command in audit exits help stats; do
	grep -q "^  $command" "$TMP/help" || fail "help does not name $command"
done
ctl exits >"$TMP/exits"
grep -q "hidden_not_backed *[1-9]" "$TMP/exits" || fail "exits counts nothing"
for i in 1 2 3 4 5; do
	[ "$(ctl audit | cut -d: -f1)" = clean ] || fail "audit"
done
ctl top exits >"$TMP/top"
grep -q "^for memory *tlb_l1_misses *[1-9]" "$TMP/top" && grep -q "^for memory *hidden_not_backed" "$TMP/top" || { cat "$TMP/top"; fail "top exits shows no causes"; }
ctl top >"$TMP/top"
grep -q "^mmu *tlb_l1_misses *[1-9]" "$TMP/top" || fail "top shows no rate"
# On a terminal it is a screen; q ends it.
python3 - "$TRIFOLD" "$socket" <<'PYTHON'
import fcntl, os, pty, select, struct, sys, termios, time
pid, fd = pty.fork()
if not pid:
    os.execv(sys.argv[1], [sys.argv[1], "ctl", sys.argv[2], "top"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 150, 0, 0))
seen, sent, end = b"", False, time.time() + 20
while time.time() < end:
    if select.select([fd], [], [], 0.2)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        seen += data
    if seen.count(b"q quits") >= 2 and not sent:
        os.write(fd, b"q")
        sent = True
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0 and b"tlb_l1_misses" in seen and seen.rstrip().endswith(b"\x1b[?1049l"), (status, seen[-300:])
PYTHON
refused "unknown command" $TRIFOLD ctl "$socket" dance
refused "usage: audit" $TRIFOLD ctl "$socket" audit everything
python3 - "$socket" <<'PYTHON'
import json, socket, sys, time
path = sys.argv[1]
def connect(timeout=10):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(timeout)
    return s
def rest(s):
    out = b""
    while True:
        try:
            data = s.recv(65536)
        except ConnectionResetError: # it did not read all that we sent
            data = b""
        if not data:
            return out
        out += data
def ask(line):
    s = connect()
    s.sendall(line)
    head, body = rest(s).split(b"\n", 1)
    word, length = head.split()
    assert len(body) == int(length), (head, body)
    return word, body
def stats():
    word, body = ask(b"stats\n")
    assert word == b"ok"
    return json.loads(body)

first = stats()
assert first["run"]["end"] == "running" and "status" not in first["run"], first["run"]
# Nobody is kept out by those who do nothing, and nobody waits for them.
idle = [connect() for _ in range(40)]
start = time.time()
for _ in range(50):
    assert ask(b"help\n")[0] == b"ok"
assert time.time() - start < 5, "idle clients hold others up"
# Many questions that want the vcpu, whose askers leave without the answer; and askers that never read it.
for _ in range(100):
    s = connect()
    s.sendall(b"audit\n")
    s.close()
deaf = []
for _ in range(30):
    s = connect()
    s.sendall(b"stats\n")
    deaf.append(s)
assert stats()["mmu"]["walks"] >= first["mmu"]["walks"]
# Odd lines: too long, empty, no newline, several, zeros, not text.
assert ask(b"x" * 5000)[0] == b"error" and ask(b"\n")[0] == b"error" and ask(b"stats\nhelp\n")[0] == b"ok"
s = connect()
s.sendall(b"help")
s.shutdown(socket.SHUT_WR)
assert rest(s).startswith(b"ok")
for line in (b"\0\n", b"\xff\xfe stats\n", b"help\0more\n", b"a b c d e f g h i j k\n"):
    ask(line)
assert ask(b"audit\n")[0] == b"ok"
# The guest went on meanwhile.
a = stats()
time.sleep(1)
b = stats()
assert b["cpu"]["syscalls"] > a["cpu"]["syscalls"] and b["host"]["vcpu_cpu_ns"] > a["host"]["vcpu_cpu_ns"], "the guest stands still"
PYTHON
kill $vm
expect_end 143 "$TMP/guest.err"
[ ! -e "$socket" ] || fail "the socket is still there"
grep -q '"stop": [1-9]' "$TMP/stats.json" || fail "the vcpu was never stopped"
# A guest that sleeps answers too, and what is not the VM's own any more stays at the end.
$TRIFOLD run $machine --control "$socket" --timeout 100 --append "quiet trifold.run=/tests/idle.sh" >"$TMP/guest" 2>&1 </dev/null &
vm=$!
sleep 4
[ "$(ctl audit | cut -d: -f1)" = clean ] || fail "audit of a guest that sleeps"
rm "$socket"
echo mine >"$socket"
kill $vm
wait $vm || true
[ "$(cat "$socket")" = mine ] || fail "another's file was removed"
