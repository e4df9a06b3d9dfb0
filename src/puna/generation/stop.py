"""Stop strings, wherever in the pieces of a text they begin."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Passes text through until a stop string is complete; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self.met is not None

    def push(self, text: str) -> str:
        """The text that is certain now. After a stop string, everything before it, and nothing more."""
        if self.stopped:
            return ""
        text = self._held + text
        if found := [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]:
            end, at = min(found)
            self.met, self._held = text[at:end], ""
            return text[:at]  # the first to be complete, as if characters came one by one
        held = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of `text` that begins `stop`."""
        sizes = range(min(len(text), len(stop) - 1), 0, -1)
        return next((n for n in sizes if text.endswith(stop[:n])), 0)
