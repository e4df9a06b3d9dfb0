"""Plots as SVG text that stands in a page by itself: bars, and lines over numbered places. It knows no report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH = 760
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#999933", "#882255", "#44aa99")
"""Told apart by the colour-blind too (Okabe and Ito, Tol)."""

_BAR, _GAP, _LABEL, _NUMBER = 20, 6, 110, 190
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 64, 150, 14, 34, 300


_Place = Callable[[float, float], tuple[float, float]]


def colour(i: int) -> str:
    """The i-th colour; they come again."""
    return COLOURS[i % len(COLOURS)]


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars: (label, value, what is written beside it), in the order given."""
    most = max((value for _, value, _ in rows), default=0) or 1
    room, parts = WIDTH - _LABEL - _NUMBER, []
    for i, (label, value, text) in enumerate(rows):
        y, length = i * (_BAR + _GAP), max(1.0, value / most * room)
        middle = y + _BAR / 2
        parts += [
            _text(_LABEL - 8, middle, label, "end"),
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour(i)}"/>',
            _text(_LABEL + length + 8, middle, text),
        ]
    return _svg(max(1, len(rows)) * (_BAR + _GAP), parts)


def lines(series: Mapping[str, Mapping[int, float]], x_label: str, y_label: str) -> str:
    """One line with points for each series {place: value}, on a logarithmic axis; values of 0 have no point."""
    points = [(x, y) for values in series.values() for x, y in values.items() if y > 0]
    if not points:
        return ""
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low, high = floor(log10(min(y for _, y in points))), ceil(log10(max(y for _, y in points)))
    high = max(high, low + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / max(1, last - first)
        up = (log10(y) - low) / (high - low)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), _TOP + (1 - up) * (_HEIGHT - _TOP - _BOTTOM)

    parts = _grid(place, low, high, first, last, x_label, y_label)
    for i, (name, values) in enumerate(series.items()):
        dots = [(*place(x, y), f"{name}, {x_label} {x}: {y:.3g}") for x, y in sorted(values.items()) if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in dots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour(i)}" stroke-width="1.5"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour(i)}"><title>{escape(title)}</title></circle>'
            for x, y, title in dots
        ]
        y = _TOP + 8 + i * 18
        parts += [
            f'<rect x="{WIDTH - _RIGHT + 16}" y="{y - 5}" width="10" height="10" fill="{colour(i)}"/>',
            _text(WIDTH - _RIGHT + 32, y, name),
        ]
    return _svg(max(_HEIGHT, _TOP + 18 * len(series) + 8), parts)


def _grid(place: _Place, low: int, high: int, first: int, last: int, x_label: str, y_label: str) -> list[str]:
    right, bottom = WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for exponent in range(low, high + 1):
        _, y = place(first, 10.0**exponent)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
        parts.append(_text(_LEFT - 8, y, f"1e{exponent}", "end"))
    for x in sorted({first, last, *range(first, last + 1, max(1, (last - first) // 8))}):
        across, _ = place(x, 10.0**low)
        parts.append(_text(across, bottom + 14, str(x), "middle"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 6, x_label, "middle"))
    parts.append(f'<g transform="rotate(-90 12 {bottom / 2})">{_text(12, bottom / 2, y_label, "middle")}</g>')
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="central">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">\n{inside}\n</svg>'
