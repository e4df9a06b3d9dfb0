"""A compiled program: a session of onnxruntime, whose states are bound to the same memory as inputs and as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from puna.backends.base import Array, Bounds, Inputs, Memory
from puna.backends.onnx.hardware import PROVIDERS, require
from puna.backends.onnx.model import Written, written
from puna.backends.onnx.values import part_shapes
from puna.backends.onnx.weights import Weights
from puna.backends.walk import Walk
from puna.dtypes import DType
from puna.errors import BackendError
from puna.graph.tensor import Tensor, concrete

NUMPY = {"F32": (np.float32,), "F16": (np.float16,), "Q8_0": (np.int8, np.float16)}
"""What numpy calls the parts of a state of each type."""


class Kept:
    """A state's memory on a device, its parts one after another."""

    def __init__(self, dtype: DType, shape: tuple[int, ...], device: str) -> None:
        self.slots = shape[0]
        shapes = part_shapes(dtype, shape)
        zeros = [np.zeros(each, kind) for each, kind in zip(shapes, NUMPY[dtype.name], strict=True)]
        self.values = [OrtValue.ortvalue_from_numpy(each, device) for each in zeros]

    def arrays(self) -> list[Array]:
        """What it holds, without the slot that nobody reads; on a processor the memory itself."""
        return [value.numpy()[: self.slots] for value in self.values]

    def leave(self, arrays: Sequence[Array]) -> None:
        """Put what `arrays` gave back."""
        for value, array in zip(self.values, arrays, strict=True):
            whole = np.concatenate((array, np.zeros((1, *array.shape[1:]), array.dtype)))
            value.update_inplace(whole)


class Program:
    """Runs a graph on one device; keeps its states, those of `others` with their programs."""

    def __init__(
        self, outputs: Sequence[Tensor], writes: Sequence[Tensor], weights: Weights, bounds: Bounds, device: str,
        threads: int | None, taking: int, others: Mapping[str, Kept],
    ) -> None:  # fmt: skip
        self._device, self._outputs = device, outputs
        self.layout = "onnx"
        self._walk = walk = Walk(outputs, writes, bounds)
        own = [n for n in walk.leaves("state") if n.name not in others]
        self.memory = Memory(walk.arena, sum(n.dtype.nbytes(concrete(n.shape, {})) for n in own))
        read = walk.leaves("weight")
        total = weights.needed(read) + self.memory.arena + self.memory.states
        require(device, total, "the weights, the cache and what is computed")
        self._own = {n.name: Kept(n.dtype, concrete(n.shape, {}), device) for n in own}
        self.kept = {**others, **self._own}
        self._written = written(outputs, writes, taking=taking)
        self._session = session(self._written, weights.take(read), device, threads)

    @property
    def states(self) -> list[Array]:
        """What states hold, in the types that their parts are kept in."""
        return [array for kept in self._own.values() for array in kept.arrays()]

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: see puna.backends.base.Portable."""
        parts = [_units(array, size)[list(units)] for array in self.kept[name].arrays()]
        return np.concatenate(parts, 1)[None]

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        arrays, at, rows = [array.copy() for array in self.kept[name].arrays()], 0, data[0]
        for array in arrays:
            part = _units(array, size)
            part[list(units)] = rows[:, at : at + part.shape[1]]
            at += part.shape[1]
        self.kept[name].leave(arrays)

    def run(self, inputs: Inputs) -> list[Array]:
        """One run of the session."""
        given, _ = self._walk.checked(inputs)
        check_sequences(self._walk, given)
        binding = self._session.io_binding()
        for name in self._written.inputs:
            binding.bind_cpu_input(name, np.asarray(given[name], order="C"))
        for name, parts in self._written.states.items():
            for (before, after), value in zip(parts, self.kept[name].values, strict=True):
                binding.bind_ortvalue_input(before, value)
                if after is not None:
                    binding.bind_ortvalue_output(after, value)
        for name in self._written.outputs:
            binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's errors have no class of their own above them
            raise BackendError(f"backend 'onnx': {str(error).splitlines()[0]}") from error
        found = dict(zip(self._order, binding.get_outputs(), strict=True))
        return [found[name].numpy() for name in self._written.outputs]

    @property
    def _order(self) -> list[str]:
        """Outputs in the order that they were bound in."""
        states = [after for parts in self._written.states.values() for _, after in parts if after is not None]
        return [*states, *self._written.outputs]


def check_sequences(walk: Walk, given: Mapping[str, Array]) -> None:
    """BackendError where a token is of a sequence that is not there: no loop would come to it."""
    for node in walk.order:
        if node.op in ("attention", "recurrence", "causal_conv1d"):
            sequence, rows = (node.inputs[4], node.inputs[5]) if node.op == "attention" else node.inputs[-3:-1]
            numbers = given.get(sequence.name)
            if numbers is not None and numbers.size and rows.name in given:
                count = len(given[rows.name])
                if not 0 <= numbers.min() <= numbers.max() < count:
                    raise BackendError(f"{node.op}: a token of sequence {numbers.max()}; there are {count}")


def session(written: Written, arrays: Mapping[str, Any], device: str, threads: int | None) -> Any:
    """onnxruntime's session of a model whose weights are given; they are not copied where it need not pack them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    names = list(arrays)
    options.add_external_initializers(names, [OrtValue.ortvalue_from_numpy(arrays[name]) for name in names])
    providers = list(dict.fromkeys((PROVIDERS[device][0], PROVIDERS["cpu"][0])))
    try:
        return onnxruntime.InferenceSession(written.model.SerializeToString(), options, providers=providers)
    except Exception as error:  # as in `run`
        raise BackendError(f"backend 'onnx': {str(error).splitlines()[0]}") from error


def _units(array: Array, size: int) -> Array:
    return array.reshape(len(array) // size, -1).view(np.uint8)
