"""What a file declares: parameters by name."""

from __future__ import annotations

from dataclasses import dataclass

from puna.graph import Tensor


@dataclass(frozen=True, slots=True)
class Weight:
    """A declared parameter: the tensor `<name>.weight` and, where the file has it, `<name>.bias`."""

    weight: Tensor
    bias: Tensor | None = None


class Biased(Weight):
    """A declared parameter whose bias must be there too."""

    __slots__ = ()
