# lib.sh - what the end-to-end tests share. They run in the top directory with BUILD set by tools/run-tests.
set -eu
BUILD=${BUILD:-build}
GUESTS=build/guests
TRIFOLD=$BUILD/trifold
TMP=$(mktemp -d)
socket=$TMP/vm.sock
vm= # a run in the background, which does not outlive its test
trap '[ -z "$vm" ] || kill $vm 2>/dev/null || true; rm -rf "$TMP"' EXIT

fail() { echo "FAILED: $*"; exit 1; }
skip() { echo "$*"; exit 77; }

# kernel_file cloud|amd64
kernel_file() {
	case $1 in
	cloud) echo $GUESTS/vmlinuz ;;
	amd64) echo $GUESTS/vmlinuz-amd64 ;;
	*) fail "no kernel $1" ;;
	esac
}

# expect_status WANTED COMMAND...: runs it with its output in $TMP/out, shows the end of that if the status is another.
expect_status() {
	wanted=$1
	shift
	got=0
	"$@" >"$TMP/out" 2>"$TMP/err" </dev/null || got=$?
	[ $got = "$wanted" ] || { cat "$TMP/err"; tail -n 40 "$TMP/out"; fail "status $got, not $wanted: $*"; }
}

# wait_until COMMAND...: tries it ten times a second, for half a minute.
wait_until() {
	for i in $(seq 300); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

# wait_for PATTERN FILE: until a guest in the background has said it.
wait_for() { wait_until grep -q "$1" "$2" || { cat "$2"; fail "the guest never says '$1'"; }; }

# expect_end WANTED FILE...: waits for $vm, and shows the files if it ends with another status.
expect_end() {
	wanted=$1 got=0
	shift
	wait $vm || got=$?
	[ $got = "$wanted" ] || { cat "$@"; fail "status $got, not $wanted"; }
}

ctl() { "$TRIFOLD" ctl "$socket" "$@"; }

# audit: $TMP/answer is what the VM says of itself, which may have ended meanwhile; it must name no rule that is broken.
audit() { ctl audit >"$TMP/answer" 2>&1 || ! grep -q "[MTSD][0-9]:" "$TMP/answer" || { cat "$TMP/answer"; fail "audit"; }; }

# busybox_on_host SCRIPT: runs it with busybox's applets only, as in a guest.
busybox_on_host() {
	mkdir -p "$TMP/bin"
	cp $GUESTS/busybox/bin/busybox "$TMP/bin/busybox"
	"$TMP/bin/busybox" --list | while read -r applet; do
		[ "$applet" = busybox ] || ln -s busybox "$TMP/bin/$applet"
	done
	env PATH="$TMP/bin" sh "$1"
}

# section NAME FILE: the lines between `BEGIN NAME` and `END NAME`, without the carriage returns of a serial console.
section() { tr -d '\r' <"$2" | sed -n "/^BEGIN $1\$/,/^END $1\$/p"; }

# as_on_host NAME FILE COMMAND...: the section is what the command says here.
as_on_host() {
	name=$1 file=$2
	shift 2
	{ echo "BEGIN $name"; "$@"; echo "END $name"; } >"$TMP/native"
	section $name "$file" | diff - "$TMP/native" || fail "$name: what the guest computes differs from native results"
}

# expect_memory SIZE: the guest of the last run, which ran memory.sh, saw all of it, but for what its kernel keeps for its image and its page records.
expect_memory() {
	total=$(awk '/MemTotal/ { print int($2 / 1024) }' "$TMP/out")
	case $1 in
	*G) wanted=$((${1%G} * 1024)) ;;
	*M) wanted=${1%M} ;;
	esac
	[ $total -ge $((wanted - 64 - wanted / 32)) ] || fail "the guest sees $total MiB of $wanted"
}
