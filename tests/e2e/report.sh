#!/bin/sh
# A report of real runs in both modes is one self-contained page that says what their files say, and a browser renders it, wide and narrow, light and dark, without errors.
# timeout: 240
. tests/e2e/lib/lib.sh
for mode in nested shadow; do
	expect_status 0 $TRIFOLD run --kernel $GUESTS/vmlinuz --initrd $GUESTS/test.img --paging $mode --debug-exit --timeout 60 --trace "$TMP/$mode.trace" \
		--stats "$TMP/$mode.json" --append "quiet trifold.run=/bin/true"
done
expect_status 0 $TRIFOLD report -o "$TMP/page.html" "$TMP/nested.json" "$TMP/shadow.trace" "$TMP/nested.trace" "$TMP/shadow.json"
expect_status 0 $TRIFOLD report "$TMP/nested.json" # to what is no terminal
cmp -s "$TMP/out" "$TMP/page.html" && fail "one run's page is that of two"

expect_status 125 $TRIFOLD report
expect_status 125 $TRIFOLD report -o
expect_status 125 $TRIFOLD report --frobnicate
expect_status 125 $TRIFOLD report -o "$TMP/no/such/folder" "$TMP/nested.json"
grep -q no/such/folder "$TMP/err" || fail "the line does not name the page"
expect_status 125 $TRIFOLD report -o "$TMP/x" "$TMP/page.html"
expect_status 125 $TRIFOLD report -o /dev/full "$TMP/nested.json"
grep -q 'No space' "$TMP/err" || fail "a full disk goes unnoticed"

# Eight runs with names that are too long, and markup, and counts of all sizes.
python3 - "$TMP" <<'PYTHON'
import json, re, sys
import xml.etree.ElementTree as xml
tmp = sys.argv[1]
text = open(f"{tmp}/page.html").read()
assert not re.search(r"<script|https?:|url\(|@import|src=", text), "the page needs others"
page = xml.fromstring(text)
rows = {r[0].text: ["".join(c.itertext()) for c in r[1:]] for r in page.iter("tr") if len(r) > 1 and r[0].text}
stats = {m: json.load(open(f"{tmp}/{m}.json")) for m in ("nested", "shadow")}
shown = 0
for group, counters in stats["nested"].items():
    for name, value in counters.items():
        if group in ("run", "host") or name.endswith(("_bytes", "_kib", "_ns")) or sum(name in g for g in stats["nested"].values()) > 1:
            continue
        cells = [c.split(" ×")[0].replace("\u202f", "") for c in rows[name][:2]]
        assert cells == [str(stats[m][group][name]) for m in ("nested", "shadow")], (name, cells)
        shown += 1
assert shown > 80, shown
assert "hidden: not present" in rows and "execve" in rows and "#PF" in rows, "no latencies"
for i in range(8):
    s = json.loads(json.dumps(stats["shadow"]))
    s["run"]["id"] = f"run {i}"
    for group in s.values():
        for k, v in group.items():
            if isinstance(v, int):
                group[k] = v * 37 ** i % (1 << 62)
    json.dump(s, open(f"{tmp}/many{i}.json", "w"))
print(f"{shown} counters in the tables; the page has {len(text) >> 10} KiB")
PYTHON
expect_status 0 $TRIFOLD report -o "$TMP/many.html" "<b>&\"' a name of a run that is quite a bit longer than is good=$TMP/many0.json" \
	"$TMP/many1.json" "$TMP/many2.json" "$TMP/many3.json" "$TMP/many4.json" "$TMP/many5.json" "$TMP/many6.json" "$TMP/many7.json"

browser=$(command -v chromium) || skip "everything but rendering passed; no chromium (tools/setup browser installs it)"
python3 tests/e2e/lib/render.py "$browser" "$TMP" "$TMP/page.html" "$TMP/many.html"
