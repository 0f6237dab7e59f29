# lib.sh - what the end-to-end tests share. They run in the top directory with BUILD set by tools/run-tests.
set -eu
BUILD=${BUILD:-build}
GUESTS=build/guests
TRIFOLD=$BUILD/trifold
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT

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
