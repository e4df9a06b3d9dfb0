"""A roofline as one SVG file: operations a byte across, operations a second up, and what the machine can do above.

It draws in the colours of the page around it, light or dark, and knows neither models nor kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import atan2, ceil, degrees, floor, log10

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 40, 60
LINE = 13
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#882255", "#44aa99", "#7f7f7f")
"""Told apart by the colour-blind too (Okabe and Ito, Tol), on white and on black."""
STYLE = """\
svg { background: #ffffff; color: #1a1a1a; font: 13px system-ui, sans-serif }
text { fill: currentColor } .grid { stroke: currentColor; stroke-opacity: 0.13 }
.roof { stroke: currentColor; stroke-width: 1.6; fill: none } .slope { stroke: currentColor; stroke-dasharray: 2 4 }
.small { font-size: 11px; opacity: 0.8 }
@media (prefers-color-scheme: dark) { svg { background: #15181c; color: #e8e8e8 } }"""

Points = Mapping[str, tuple[float, float]]


def svg(title: str, reads: Mapping[str, float], peaks: Mapping[str, float], groups: Mapping[str, Points]) -> str:
    """The plot: `reads` in bytes a second by place, memory's first, `peaks` in operations a second, groups of points.

    A point is (operations a byte, operations a second); points that are not above zero are left out.
    """
    bandwidth = next(iter(reads.values()))
    points = [p for group in groups.values() for p in group.values() if min(p) > 0]
    x = _axis([a for a, _ in points] + [peak / bandwidth for peak in peaks.values()], LEFT, WIDTH - RIGHT)
    y = _axis([b for _, b in points] + list(peaks.values()), HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>', *_grid(x, y)]
    below = 0.0
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        below = max(y(peak) + 4, below + LINE)  # labels of roofs that are close stand below each other
        parts += [
            _roof(peak, bandwidth, x, y),
            _text(WIDTH - RIGHT + 6, below, f"{name} {peak / 1e9:.0f}", "start", "small"),
        ]
    parts += [part for place, rate in reads.items() for part in _slope(place, rate, max(peaks.values()), x, y)]
    named = [(f"{kind}, {group}", point) for group, found in groups.items() for kind, point in found.items()]
    parts += _marks([(name, point) for name, point in named if min(point) > 0], x, y)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


class Axis:
    """Powers of ten from one place to another."""

    def __init__(self, low: int, high: int, first: float, last: float) -> None:
        self.low, self.high, self.first, self.last = low, high, first, last

    def __call__(self, value: float) -> float:
        """Where a value stands."""
        part = (log10(value) - self.low) / (self.high - self.low)
        return self.first + min(1.0, max(0.0, part)) * (self.last - self.first)


def _axis(values: Sequence[float], first: float, last: float) -> Axis:
    low, high = floor(log10(min(values)) - 0.1), ceil(log10(max(values)) + 0.1)
    return Axis(low, max(high, low + 1), first, last)


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for power in range(x.low, x.high + 1):
        at = x(10.0**power)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        parts.append(_text(at, HEIGHT - BOTTOM + 18, f"{10.0**power:g}", "middle"))
    for power in range(y.low, y.high + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" class="grid"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{10.0 ** (power - 9):g}", "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "operations a byte read", "middle"))
    parts.append(f'<g transform="rotate(-90 18 {middle})">{_text(18, middle, "GOP/s", "middle")}</g>')
    return parts


def _roof(peak: float, bandwidth: float, x: Axis, y: Axis) -> str:
    """Memory's slope up to the ridge, then the peak."""
    start = max(10.0**x.low, 10.0**y.low / bandwidth)
    ends = [(start, start * bandwidth), (peak / bandwidth, peak), (10.0**x.high, peak)]
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in ends)
    return f'<polyline points="{path}" class="roof"/>'


def _slope(place: str, rate: float, peak: float, x: Axis, y: Axis) -> list[str]:
    """What one place gives, up to the highest roof, with its name along it."""
    start, end = max(10.0**x.low, 10.0**y.low / rate), peak / rate
    left, right, bottom, top = x(start), x(end), y(start * rate), y(peak)
    angle, at = (
        degrees(atan2(top - bottom, right - left)),
        (left + 0.25 * (right - left), bottom + 0.25 * (top - bottom)),
    )
    text = _text(0, -6, f"{place} {rate / 1e9:.0f} GB/s", "start", "small")
    return [
        f'<line x1="{left:.1f}" y1="{bottom:.1f}" x2="{right:.1f}" y2="{top:.1f}" class="slope"/>',
        f'<g transform="translate({at[0]:.1f} {at[1]:.1f}) rotate({angle:.1f})">{text}</g>',
    ]


def _marks(named: Sequence[tuple[str, tuple[float, float]]], x: Axis, y: Axis) -> list[str]:
    parts = []
    for i, (name, (intensity, rate)) in enumerate(named):
        colour, across, up, place = COLOURS[i % len(COLOURS)], x(intensity), y(rate), HEIGHT - BOTTOM - 12 - 18 * i
        told = f"{name}: {rate / 1e9:.3g} GOP/s at {intensity:.3g} operations a byte"
        shape = f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" fill="{colour}"><title>{escape(told)}</title></circle>'
        key = f'<circle cx="{WIDTH - RIGHT + 14}" cy="{place}" r="5" fill="{colour}"/>'
        parts += [shape, key, _text(WIDTH - RIGHT + 24, place + 4, name, "start", "small")]
    return parts


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
