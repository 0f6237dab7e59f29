"""Renders pages in headless Chromium, wide and narrow, light and dark: no error on the console, nothing wider than the page, no text cut off or hard to see.

    render.py BROWSER FOLDER PAGE.html...

FOLDER gets the browser's profile. The pages have no script; that of a page around them looks into them."""
import re, subprocess, sys
from pathlib import Path

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--allow-file-access-from-files", "--enable-logging=stderr", "--hide-scrollbars", "--window-size=1400,1000"]
SCHEMES = {"light": "1", "dark": "0"}	# blink::mojom::PreferredColorScheme

LOOK = """
function luminance(css) {
	const c = css.match(/[0-9.]+/g).slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
	return .2126 * c[0] + .7152 * c[1] + .0722 * c[2];
}
function contrast(a, b) { const x = luminance(a), y = luminance(b); return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); }
function look(frame, name, dark) {
	const doc = frame.contentDocument, root = doc.documentElement, problems = [], style = e => frame.contentWindow.getComputedStyle(e);
	const width = root.clientWidth, bg = style(doc.body).backgroundColor;
	if (root.scrollWidth > width) problems.push(`is ${root.scrollWidth} wide`);
	if ((luminance(bg) < .2) != dark) problems.push(`background ${bg}`);
	if (contrast(bg, style(doc.body).color) < 7) problems.push("text is hard to read");
	const plots = doc.querySelectorAll("svg.plot");
	let bars = 0;
	for (const svg of plots) {
		const box = svg.getBoundingClientRect();
		if (box.width < 100 || box.height < 10) problems.push(`a plot of ${box.width} x ${box.height}`);
		for (const t of svg.querySelectorAll("text")) {
			const b = t.getBoundingClientRect();
			if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1) problems.push(`text cut off: ${t.textContent}`);
		}
		for (const r of svg.querySelectorAll("rect")) {
			const b = r.getBoundingClientRect();
			bars++;
			if (!(b.width > 0 && b.height > 0 && b.left >= box.left - 1 && b.right <= box.right + 1 && b.bottom <= box.bottom + 1)) problems.push("a bar outside its plot");
			if (contrast(bg, style(r).fill) < 2) problems.push(`a bar hard to see: ${style(r).fill} on ${bg}`);
		}
	}
	if (!plots.length || !bars) problems.push("no plots");
	for (const cell of doc.querySelectorAll("td, th, p, h3")) {
		const b = cell.getBoundingClientRect();
		if (b.right > width + 1 && !cell.closest(".scroll")) problems.push(`beyond the page: ${cell.textContent}`);
	}
	console.log(`LOOKED at ${name}: ${plots.length} plots, ${bars} bars; problems: ${[...new Set(problems)].slice(0, 5).join("; ") || "none"}`);
}
"""


def render(browser, folder, pages, widths, scheme):
    frames = "".join(f'<iframe style="width:{w}px;height:900px" src="{p.as_uri()}" data-name="{p.name} at {w}, {scheme}"></iframe>' for p in pages for w in widths)
    around = folder / f"around-{scheme}.html"
    around.write_text(f"<!DOCTYPE html><meta charset=utf-8><style>:root{{color-scheme:light dark}}</style><body>{frames}<script>{LOOK}\nonload = () => "
                      f"document.querySelectorAll('iframe').forEach(f => look(f, f.dataset.name, {str(scheme == 'dark').lower()}));</script>")
    got = subprocess.run([browser, *FLAGS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--user-data-dir={folder}/profile-{scheme}", "--dump-dom", around.as_uri()],
                         capture_output=True, text=True, timeout=100)
    says = re.findall(r"CONSOLE[^\"]*\] \"(.*)\", source", got.stderr)
    assert len(says) == len(pages) * len(widths), f"status {got.returncode}, on the console: {says}\n{got.stderr[-2000:]}"
    return says


def main():
    browser, folder, *pages = sys.argv[1:]
    bad = 0
    for scheme in SCHEMES:
        for line in render(browser, Path(folder), [Path(p).resolve() for p in pages], (360, 1280), scheme):
            print(line)
            bad += not re.match(r"LOOKED at .*problems: none$", line)
    sys.exit(1 if bad else 0)


main()
