"""A compiled program: steps in two schedules over one planned arena, handed to the native executor once.

A run of few tokens uses the schedule in which every thread does tiny steps for itself; see steps.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from puna.backends.base import Array, Bounds, Inputs, Memory
from puna.backends.cpu import _native
from puna.backends.cpu.fuse import SLOTS
from puna.backends.cpu.lowering import Kept, Lowering
from puna.backends.cpu.steps import Phase, Step, phases
from puna.backends.cpu.views import Storage
from puna.backends.cpu.weights import Weights
from puna.errors import BackendError
from puna.graph.plan import Life, Plan, plan
from puna.graph.tensor import Dim, Tensor

FEW = 2
"""Tokens of a run in which repeating a tiny step costs less than waiting for it."""
ARENA, OWN, OUTSIDE = range(3)
SYMBOLS = ("T", "O", "S")


class Schedule:
    """Phases, and where each storage lies while they run."""

    def __init__(
        self, steps: Sequence[Step], storages: Sequence[Storage], sizes: Mapping[str, int], *, own: bool
    ) -> None:
        self.phases = phases(steps, own=own)
        lives = _lives(steps, self.phases, storages, sizes)
        mine = {s for phase in self.phases for i in phase.own for s in steps[i].writes}
        self.arena: Plan[Storage] = plan([life for life in lives if life.value not in mine])
        self.own: Plan[Storage] = plan([life for life in lives if life.value in mine])

    def encoded(self, storages: Sequence[Storage]) -> tuple[object, object]:
        """As the native module takes it."""
        places = [self._place(s) for s in storages]
        return places, [(phase.own, phase.shared) for phase in self.phases]

    def _place(self, storage: Storage) -> tuple[int, int]:
        if storage.array is not None:
            return OUTSIDE, 0
        if storage in self.own.offsets:
            return OWN, self.own.offsets[storage]
        return ARENA, self.arena.offsets.get(storage, 0)


def _lives(
    steps: Sequence[Step], order: Sequence[Phase], storages: Sequence[Storage], sizes: Mapping[str, int]
) -> list[Life[Storage]]:
    """From the phase that first touches a storage to the last one; fixed ones live always."""
    seen: dict[Storage, tuple[int, int]] = {s: (0, len(order)) for s in storages if s.fixed and s.array is None}
    for level, phase in enumerate(order):
        for index in (*phase.own, *phase.shared):
            for storage in (*steps[index].reads, *steps[index].writes):
                if storage.array is None:
                    first, last = seen.get(storage, (level, level))
                    seen[storage] = (first, max(last, level))
    return [Life(s, max(1, s.nbytes(sizes)), first, last) for s, (first, last) in seen.items()]


class Program:
    """Runs a graph; keeps its states. `kept` are those that other programs may share."""

    def __init__(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        pool: Any,
        isa: str,
        writes: Sequence[Tensor] = (),
        others: Mapping[str, Kept] = MappingProxyType({}),
    ) -> None:
        self._bounds = bounds.sizes()
        lowering = Lowering(outputs, weights, writes, others)
        self._weights = weights
        weights.start()
        inputs = [n for n in lowering.nodes if n.op == "input"]
        self._specs = [(n.name, n.dtype.numpy, n.shape) for n in inputs]
        self.steps, self._storages = lowering.steps, lowering.storages
        few = {name: min(FEW, limit) for name, limit in self._bounds.items()} | {"S": self._bounds["S"]}
        self.schedules = [
            Schedule(self.steps, self._storages, few, own=True),
            Schedule(self.steps, self._storages, self._bounds, own=False),
        ]
        self._few = few
        self._forms: list[tuple[Any, ...]] | None = None  # dtype, shape and order of the last run's inputs
        self._arena = _native.zeros(max(s.arena.size for s in self.schedules))
        stride = max(s.own.size for s in self.schedules)
        own = _native.zeros(max(1, stride) * pool.size)
        self.kept = {**others, **lowering.kept}
        self.layout = f"cpu {_native.isas()[-1] if isa == 'auto' else isa}"
        self._shapes = {node.name: cast("tuple[int, ...]", node.shape) for node in lowering.states}
        self.states: list[Array] = [array for name, (array, _) in lowering.kept.items() if name not in others]
        self.memory = Memory(self._arena.nbytes + own.nbytes, sum(array.nbytes for array in self.states))
        self._outputs = [self._output(lowering, node, i) for i, node in enumerate(outputs)]
        self._native = _native.Program(
            pool,
            isa,
            [step.encoded() for step in self.steps],
            [s.array for s in self._storages],
            [schedule.encoded(self._storages) for schedule in self.schedules],
            [lowering.view(n).storage.index for n in inputs],
            self._arena,
            own,
            stride,
        )

    def _output(self, lowering: Lowering, node: Tensor, i: int) -> tuple[Any, Any, list[int]]:
        view = lowering.outputs[i]
        return node.shape, view.dtype.numpy, [s.arena.offsets[view.storage] for s in self.schedules]

    def run(self, inputs: Inputs) -> list[Array]:
        """Run once; the outputs are views of the arena, valid until the next run."""
        arrays = [inputs[name] for name, _, _ in self._specs]
        forms = [(a.dtype, a.shape, a.flags.c_contiguous) for a in arrays]
        if forms != self._forms:  # steps of decoding look like the one before
            arrays = self._prepare(arrays)
        schedule, t, o, s = self._sizes
        fault = self._native.run(schedule, t, o, s, arrays)
        if fault:
            step, wrong = self.steps[fault - 1], "an index lies outside what it names, or where another sequence writes"
            raise BackendError(f"backend 'cpu': {step.label}: {wrong}")
        return list(self._results)

    def _prepare(self, given: Sequence[Array]) -> list[Array]:
        """Inputs as the native side takes them; fixes this run's sizes and where its results will lie."""
        self._weights.finish()
        sizes: dict[str, int] = {}
        named = zip(given, self._specs, strict=True)
        arrays = [self._array(array, name, dtype, shape, sizes) for array, (name, dtype, shape) in named]
        t, o, s = (sizes.get(symbol, 0) for symbol in SYMBOLS)
        schedule = 0 if t <= self._few["T"] and o <= self._few["O"] else 1
        self._sizes = (schedule, t, o, s)
        self._results = [
            np.ndarray(
                [sizes[d.name] if isinstance(d, Dim) else d for d in shape], dtype, self._arena, offsets[schedule]
            )
            for shape, dtype, offsets in self._outputs
        ]
        self._forms = [(a.dtype, a.shape, a.flags.c_contiguous) for a in arrays]
        return arrays

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: see puna.backends.base.Portable."""
        return self._units(name, size)[:, units]

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        self._units(name, size)[:, units] = data

    def _units(self, name: str, size: int) -> Array:
        """A view of a state's bytes: (groups, units, bytes); where it is in pages, each head's lie together."""
        (array, order), (slots, *more) = self.kept[name], self._shapes[name]
        return array.reshape(1 if order == SLOTS else more[0], slots // size, -1)

    @property
    def seconds(self) -> float:
        """How long the native part of the last run took."""
        return self._native.seconds

    def profile(self, on: bool) -> None:
        """From now on collect where time goes, or no longer; forgets what was collected."""
        self._native.profile(on)

    def profiles(self) -> list[_native.Profile]:
        """What was collected, one a thread: `seconds` and `units` by step, `waits` by schedule and phase."""
        return self._native.profiles()

    def _array(self, array: Array, name: str, dtype: Any, shape: tuple[int | Dim, ...], sizes: dict[str, int]) -> Array:
        array = np.asarray(array, dtype, order="C")
        if len(array.shape) == len(shape):
            for dim, size in zip(shape, array.shape, strict=True):
                if isinstance(dim, int):
                    fits = size == dim
                else:
                    fits = size == sizes.setdefault(dim.name, size) and size <= self._bounds[dim.name]
                if not fits:
                    break
            else:
                return array
        raise BackendError(f"input '{name}': shape {array.shape} does not fit {shape} within {self._bounds}")
