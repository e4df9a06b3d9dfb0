"""The adapters that a loaded model has at hand: by name, with the numbers that the engine knows them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from puna.errors import ModelError, RequestError

if TYPE_CHECKING:
    from puna.engine.choosing import Chosen as Numbered
    from puna.formats.lora import Adapter


Chosen = str | Sequence[str] | Mapping[str, float]
"""Adapters of one answer: a name, names, or names with the factors of their changes."""


@dataclass(frozen=True)
class Adapters:
    """Those that sequences may have, with their numbers, and the factors of those they have anyhow.

    A number is never another adapter's, for what was computed is known by it.
    """

    named: dict[str, tuple[int, Adapter]] = field(default_factory=dict)
    always: Mapping[str, float] = field(default_factory=dict)

    def check_new(self, name: str) -> None:
        """ModelError where another one cannot have this name."""
        if not name or name in self.named:
            raise ModelError(f"adding an adapter: the name {name!r} is {'taken' if name else 'empty'}; another works")

    def check_known(self, name: str) -> None:
        """RequestError where there is none of this name."""
        if name not in self.named:
            known = f"known: {', '.join(self.named)}" if self.named else "add_adapter() makes one known"
            raise RequestError(f"adapter {name!r} is unknown; {known}")

    def chosen(self, factors: Mapping[str, float]) -> Numbered:
        """What the engine calls adapters of these names and factors; RequestError names one that is not there.

        Those that are there always have the factors given here, if any.
        """
        wanted = {**self.always, **factors}
        for name, factor in wanted.items():
            self.check_known(name)
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not isfinite(factor):
                raise RequestError(f"adapter {name!r}: its factor is {factor!r}; a number would work")
        return tuple(sorted((self.named[name][0], float(factor)) for name, factor in wanted.items() if factor))


def factors_of(adapters: Chosen) -> dict[str, float]:
    """Names of adapters with the factors of their changes; 1 where only names are given."""
    if isinstance(adapters, Mapping):
        return dict(adapters)
    return dict.fromkeys([adapters] if isinstance(adapters, str) else adapters, 1.0)
