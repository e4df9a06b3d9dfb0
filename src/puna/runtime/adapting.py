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
    """Those that sequences may have, in the order of their numbers, and the factors of those they have anyhow."""

    named: dict[str, Adapter] = field(default_factory=dict)
    always: Mapping[str, float] = field(default_factory=dict)

    def check_new(self, name: str) -> None:
        """ModelError where another one cannot have this name."""
        if not name or name in self.named:
            raise ModelError(f"adding an adapter: the name {name!r} is {'taken' if name else 'empty'}; another works")

    def chosen(self, factors: Mapping[str, float]) -> Numbered:
        """What the engine calls adapters of these names and factors; RequestError names one that is not there.

        Those that are there always have the factors given here, if any.
        """
        numbers = {name: number for number, name in enumerate(self.named, 1)}
        for name, factor in factors.items():
            if name not in self.named:
                known = f"known: {', '.join(self.named)}" if self.named else "add_adapter() makes one known"
                raise RequestError(f"adapter {name!r} is unknown; {known}")
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not isfinite(factor):
                raise RequestError(f"adapter {name!r}: its factor is {factor!r}; a number would work")
        wanted = {**self.always, **factors}
        return tuple(sorted((numbers[name], float(factor)) for name, factor in wanted.items() if factor))


def factors_of(adapters: Chosen) -> dict[str, float]:
    """Names of adapters with the factors of their changes; 1 where only names are given."""
    if isinstance(adapters, Mapping):
        return dict(adapters)
    return dict.fromkeys([adapters] if isinstance(adapters, str) else adapters, 1.0)
