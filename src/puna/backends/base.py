"""What a backend is: the protocol between graphs and whatever runs them.

A backend knows graphs, dtypes and quantization types; never architectures, engines or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import Stored
from puna.graph.tensor import Tensor

Array = NDArray[Any]
Inputs = Mapping[str, Array]
Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper limits of the symbolic dimensions of one program."""

    T: int
    O: int  # noqa: E741 - the symbol of the design
    S: int

    def sizes(self) -> dict[str, int]:
        """Limits by symbol."""
        return {"T": self.T, "O": self.O, "S": self.S}


@dataclass(frozen=True, slots=True)
class Device:
    """Something a backend runs on: the name it is asked for by, what it is, and its memory in bytes (0: not said)."""

    name: str
    what: str
    memory: int = 0
    free: int = 0
    accelerates: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a program takes, known before they are taken: the arena of intermediate values, and the states."""

    arena: int
    states: int


class Weights(Protocol):
    """Parameters as one backend keeps them."""

    @property
    def nbytes(self) -> int:
        """Bytes resident for the weights."""
        ...

    def finish(self) -> None:
        """Wait until they are taken in, which may go on in the background; the first run waits by itself."""
        ...


class Program(Protocol):
    """A compiled graph with its states."""

    @property
    def memory(self) -> Memory:
        """What it takes."""
        ...

    @property
    def states(self) -> Sequence[Array]:
        """The memory of its states, each in the order that the backend keeps."""
        ...

    def run(self, inputs: Inputs) -> list[Array]:
        """Run once: arrays by input name in, one array an output back, which holds until the next run."""
        ...


@runtime_checkable
class Portable(Program, Protocol):
    """A program whose states can be taken out, to be put back into a program of the same `layout` and graph.

    A state is made of units, each `size` entries of its first axis: positions, or memories of sequences.
    """

    @property
    def layout(self) -> str:
        """What the order and the values of states depend on besides the graph."""
        ...

    @property
    def kept(self) -> Mapping[str, Any]:
        """Its states by name, and those of the program that it is beside."""
        ...

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: bytes (groups, len(units), bytes of one in a group)."""
        ...

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        ...


class Backend(Protocol):
    """Loads weights and compiles graphs."""

    name: str

    def supports(self, node: Tensor) -> bool:
        """Whether it runs this op with these dtypes, shapes and attributes itself."""
        ...

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Take the weights into the layout this backend computes with; those of `beside` are there too, as they are."""
        ...

    def compile(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        *,
        writes: Sequence[Tensor] = (),
        beside: Program | None = None,
    ) -> Program:
        """Lower, plan and allocate; BackendError names what it cannot run.

        `writes` are nodes that are run for what they leave in states. States with names of those of `beside`, a
        program of this backend, are its own.
        """
        ...

    def best(self, logits: NDArray[np.float32], count: int, /) -> NDArray[np.int64]:
        """Ids of the `count` largest logits, as `puna.backends.selection` defines them."""
        ...
