"""Plots as SVG text: dots on a logarithmic axis for ratios, bars for seconds."""
import math
from xml.sax.saxutils import escape
from lib.systems import TITLES

COLOURS = {"native": "#444444", "nested": "#0868ac", "shadow": "#43a2ca", "auto": "#7bccc4", "direct": "#6a51a3", "xen": "#b2182b", "qemu": "#d95f0e"}
WIDTH, LEFT, RIGHT, TOP, ROW = 760, 130, 20, 64, 19
STYLE = "font-family='Helvetica, Arial, sans-serif' fill='#222222'"


def text(x, y, words, size=12, anchor="start", extra=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' {STYLE} {extra}>{escape(words)}</text>"


def frame(height, title, series):
    """Opens the picture: white ground, title, legend."""
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'>",
             f"<title>{escape(title)}</title>", f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
             text(10, 20, title, 14, extra="font-weight='bold'")]
    x = LEFT
    for name in series:
        parts += [f"<circle cx='{x}' cy='36' r='4.5' fill='{COLOURS[name]}'/>", text(x + 9, 40, TITLES[name])]
        x += 26 + 7 * len(TITLES[name])
    return parts


def dots(title, rows, series):
    """ROWS: (label, {system: ratio}); native is the line at 1."""
    values = [v for _, ratios in rows for v in ratios.values()] + [1]
    low, high = math.floor(math.log2(min(values)) - 0.1), math.ceil(math.log2(max(values)) + 0.1)
    height = TOP + ROW * len(rows) + 12
    bottom = TOP + ROW * len(rows) - 4
    place = lambda v: LEFT + (math.log2(v) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    parts = frame(height, title, series)
    for power in range(low, high + 1):
        x, one = place(2.0 ** power), power == 0
        parts.append(f"<line x1='{x:.1f}' y1='{TOP - 6}' x2='{x:.1f}' y2='{bottom}' stroke='{'#444444' if one else '#dddddd'}' stroke-width='{1.5 if one else 1}'/>")
        parts.append(text(x, TOP - 9, f"{2 ** power}" if power >= 0 else f"1/{2 ** -power}", 11, "middle"))
    for number, (label, ratios) in enumerate(rows):
        y, bold = TOP + ROW * number + 8, "font-weight='bold'" if label.startswith("geometric") else ""
        parts.append(text(LEFT - 8, y + 4, label, 12, "end", bold))
        at = [place(v) for v in ratios.values()]
        if at:
            parts.append(f"<line x1='{min(at):.1f}' y1='{y}' x2='{max(at):.1f}' y2='{y}' stroke='#bbbbbb' stroke-width='1.5'/>")
        for name in series:
            if name in ratios:
                parts.append(f"<circle cx='{place(ratios[name]):.1f}' cy='{y}' r='4.5' fill='{COLOURS[name]}'>"
                             f"<title>{escape(label)}, {TITLES[name]}: {ratios[name]:.2f}</title></circle>")
    return "\n".join(parts + ["</svg>", ""])


def bars(title, groups):
    """GROUPS: (label, {system: seconds})."""
    series = [s for s in TITLES if any(s in values for _, values in groups)]
    top = max(v for _, values in groups for v in values.values())
    left, bar, high = LEFT + 40, 15, TOP - 10
    height = high + sum(bar * len(values) + 14 for _, values in groups)
    parts, y = frame(height, title, series), high
    for label, values in groups:
        parts.append(text(left - 8, y + bar * len(values) / 2 + 4, label, 12, "end"))
        for name in series:
            if name in values:
                width = values[name] / top * (WIDTH - left - 60)
                parts.append(f"<rect x='{left}' y='{y}' width='{width:.1f}' height='{bar - 3}' fill='{COLOURS[name]}'/>")
                parts.append(text(left + width + 5, y + bar - 5, f"{values[name]:.2f}", 11))
                y += bar
        y += 14
    return "\n".join(parts + ["</svg>", ""])
