"""Figures as lines of text: aligned columns, and numbers with as many digits as are worth reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The head and the rows in columns: the first to the left, the others to the right."""
    whole = [head, *rows]
    widths = [max(len(row[i]) for row in whole) for i in range(len(head))]
    for row in whole:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def giga(value: float) -> str:
    """Bytes or operations a second in units of 1e9."""
    return number(value / 1e9)


def percent(value: float | None) -> str:
    """A share; a dash where it is not known."""
    return "-" if value is None else f"{100 * value:.0f} %"


def spread(values: Sequence[float]) -> str:
    """The least and the most, in brackets."""
    return f"({number(min(values))} to {number(max(values))})"
