"""A backend in thirty lines, as docs/add-a-backend.md shows it: core ops only, each as the definition computes it."""

import numpy as np

from puna.backends.base import Memory
from puna.backends.definition import evaluate
from puna.backends.numpy import Weights
from puna.backends.selection import best
from puna.graph.lower import lower
from puna.graph.ops import OPS
from puna.graph.tensor import Dim, topological


class Program:
    memory = Memory(arena=0, states=0)

    def __init__(self, outputs, writes, weights, kept):
        self.outputs, self.order, self.weights = outputs, topological([*outputs, *writes]), weights
        own = [n for n in self.order if n.op == "state" and n.name not in kept]
        self.kept = kept | {n.name: np.zeros(n.shape, np.float32) for n in own}
        self.states = [self.kept[n.name] for n in own]

    def run(self, inputs):
        values = {n: inputs[n.name] for n in self.order if n.op == "input"}
        pairs = [pair for n in values for pair in zip(n.shape, values[n].shape, strict=True)]
        sizes = {dim.name: size for dim, size in pairs if isinstance(dim, Dim)}
        for n in self.order:
            if n.op == "weight":
                values[n] = self.weights[n.name]
            elif n.op == "state":
                values[n] = self.kept[n.name]
            elif n.op == "constant":
                values[n] = n.attrs["value"]
            elif n.op != "input":
                values[n] = evaluate(n, [values.get(i) for i in n.inputs], sizes)
        return [values[o] for o in self.outputs]


class Example:
    name, best = "example", staticmethod(best)

    def supports(self, node):
        return not OPS[node.op].fused

    def load(self, weights, progress=None, *, beside=None):
        return Weights(weights, beside)

    def compile(self, outputs, weights, bounds, *, writes=(), beside=None):
        lowered = lower([*outputs, *writes], self.supports, self.name, evaluate)
        return Program(lowered[: len(outputs)], lowered[len(outputs) :], weights, beside.kept if beside else {})


def open_backend(threads=None):
    return Example()
