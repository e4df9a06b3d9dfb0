"""Models that one process answers for, as they have one file of weights: words and adapters tell them apart."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from puna.errors import RequestError
from puna.worker.requests import Lora, Of

if TYPE_CHECKING:
    from puna.model import Model


class Variants:
    """Those like `base`, made when they are first asked for. Several threads may ask."""

    def __init__(self, base: Model) -> None:
        self._base = base
        self._made: dict[str, Model] = {}
        self._making = threading.Lock()

    def find(self, of: Of | None) -> Model:
        """The model that a request is for; None: the one that was loaded."""
        if of is None:
            return self._base
        if found := self._made.get(of.digest):
            return found
        with self._making:
            if of.digest not in self._made:
                self._made[of.digest] = self._base.like(of.name)
            return self._made[of.digest]

    def adapters(self, model: Model, wanted: Sequence[Lora] | None) -> dict[str, float]:
        """The factors of all adapters that a request names, and 0 for those of the model that it does not name."""
        if wanted is None:
            return {}
        own = model.own_adapters
        found = dict.fromkeys(own, 0.0)
        for lora in wanted:
            if lora.of is not None:
                found |= dict.fromkeys(self.find(lora.of).own_adapters, lora.scale)
            elif lora.id is not None and 0 <= lora.id < len(own):
                found[own[lora.id]] = lora.scale
            else:
                known = f"it has 0 to {len(own) - 1}" if own else "it has none"
                raise RequestError(f"lora: this model has no adapter {lora.id} to choose; {known}")
        return found
