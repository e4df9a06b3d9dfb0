"""Progress of long work on stderr: one line that is rewritten on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

REDRAW = 0.1
"""Seconds between two drawings of a line."""

MOMENT = 0.5
"""Seconds of loading that nobody has to be told of."""

BAR = 20
"""Characters of the bar."""


class Progress:
    """Called with what is being done, how much is done and how much it is in all (0: unknown).

    That is bytes, unless `unit` names another thing.
    """

    def __init__(self, out: TextIO | None = None, *, unit: str = "") -> None:
        self._out = out or sys.stderr
        self._unit = unit
        self._terminal = self._out.isatty()
        self._status = ""
        self._begun = self._drawn = 0.0

    def __call__(self, status: str, done: int, total: int) -> None:
        """Draw; a new status begins a new line."""
        now = time.monotonic()
        if status != self._status:
            self.close()
            self._status, self._begun, self._drawn = status, now, 0.0
            if not self._terminal:
                print(status, file=self._out)
        if self._terminal and (now - self._drawn >= REDRAW or (total and done >= total)):
            self._drawn = now
            self._out.write(f"\r\033[K{_fitted(status, _figures(done, total, now - self._begun, self._unit))}")
            self._out.flush()

    def stage(self, status: str) -> Callable[[str, int, int], None]:
        """The same with one status for work that names each of its many parts."""
        return lambda _, done, total: self(status, done, total)

    def close(self) -> None:
        """End the line that is being drawn."""
        if self._terminal and self._status:
            self._out.write("\n")
        self._status = ""

    def clear(self) -> None:
        """Take the line that is being drawn away again."""
        if self._terminal and self._status:
            self._out.write("\r\033[K")
            self._out.flush()
        self._status = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def loading(out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """What shows bytes done of bytes in all on a terminal, where that takes longer than a moment; gone when done."""
    line, begun = Progress(out), clock()
    shown = (out or sys.stderr).isatty()

    def show(done: int, total: int) -> None:
        if done >= total:
            line.clear()
        elif shown and clock() - begun > MOMENT:
            line("loading", done, total)

    return show


@contextmanager
def waiting(so: Callable[[], bool], out: TextIO | None = None) -> Iterator[Callable[[], None]]:
    """Says `loading` on a terminal after a moment, if it is `so` then; gone when what is yielded is called."""
    line = Progress(out)
    timer = threading.Timer(MOMENT, lambda: line("loading", 0, 0) if so() else None)
    timer.daemon = True

    def came() -> None:
        timer.cancel()
        timer.join()
        line.clear()

    if not (out or sys.stderr).isatty():
        yield lambda: None
        return
    timer.start()
    try:
        yield came
    finally:
        came()


def _fitted(status: str, figures: str) -> str:
    """Both on one line of the terminal, the status cut at its beginning if need be."""
    from shutil import get_terminal_size

    room = max(get_terminal_size().columns - 1 - len(figures), 20)
    return (status if len(status) <= room else f"...{status[3 - room :]}") + figures


def _figures(done: int, total: int, seconds: float, unit: str = "") -> str:
    from puna.store.blobs import readable_size

    def amount(count: float) -> str:
        return f"{count:,.0f}" if unit else readable_size(count)

    if not done:
        return ""
    rate = done / seconds if seconds > 0.2 else 0.0
    of = f"  {amount(done)} of {amount(total)}" if total else f"  {amount(done)}"
    text = of + (f" {unit}" if unit else "") + (f"  {100 * done // total} % {_bar(done, total)}" if total else "")
    if rate:
        text += f"  {amount(rate)}{f' {unit}' if unit else ''}/s"
        text += f"  {(total - done) / rate:.0f} s left" if total else ""
    return text


def _bar(done: int, total: int) -> str:
    full = min(BAR, BAR * done // total)
    return f"[{'#' * full}{'.' * (BAR - full)}]"
