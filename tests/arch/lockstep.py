"""A backend that splits every graph over processes, and runs them all in this one, a node of each in turn, on numpy."""

import numpy as np

from backends import example
from puna.backends.definition import evaluate
from puna.graph.lower import lower
from puna.graph.shard import shard
from puna.graph.tensor import Dim, topological


class Loaded:
    nbytes = 0

    def __init__(self, stored):
        self.stored = stored

    def finish(self):
        pass

    def value(self, name, parts):
        """A weight, or the part of one."""
        if name not in parts:
            return self.stored[name].numpy()
        part = parts[name]
        whole = self.value(part.name, parts)
        return np.take(whole, np.arange(part.start, part.stop), axis=part.axis)


class Program(example.Program):
    def __init__(self, graphs, parts, count, weights, kept):
        self.orders = [topological(graph) for graph in graphs]
        self.outputs = [graph[:count] for graph in graphs]
        self.parts, self.weights = parts, weights
        self.kept = kept or [
            {n.name: np.zeros(n.shape, np.float32) for n in order if n.op == "state"} for order in self.orders
        ]
        for order, own in zip(self.orders, self.kept, strict=True):
            named = [n.name for n in order if n.op == "state"]
            assert len(named) == len(set(named))
            own |= {n.name: np.zeros(n.shape, np.float32) for n in order if n.op == "state" and n.name not in own}

    def run(self, inputs):
        values = [{None: None} for _ in self.orders]
        sizes = {}
        for node in (n for n in self.orders[0] if n.op == "input"):
            pairs = zip(node.shape, inputs[node.name].shape, strict=True)
            sizes |= {dim.name: size for dim, size in pairs if isinstance(dim, Dim)}
        runs = [self.steps(rank, inputs, values[rank], sizes) for rank in range(len(self.orders))]
        parts = [next(each, None) for each in runs]
        while parts[0] is not None:  # all have come to the same sum
            parts = [sent(each, sum(parts)) for each in runs]
        assert not any(part is not None for part in parts)
        found = [[known[o] for o in outputs] for known, outputs in zip(values, self.outputs, strict=True)]
        for others in found[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))
        return found[0]

    def steps(self, rank, inputs, values, sizes):
        """Every node of one process; gives its part of each sum, and is sent the whole."""
        for node in self.orders[rank]:
            values[node] = self.made(rank, node, inputs, values, sizes)
            if node.op == "all_reduce":
                values[node] = yield values[node]

    def made(self, rank, node, inputs, values, sizes):
        if node.op == "input":
            return inputs[node.name]
        if node.op == "weight":
            return self.weights.value(node.name, self.parts[rank])
        if node.op == "state":
            return self.kept[rank][node.name]
        if node.op == "constant":
            return node.attrs["value"]
        if node.op == "all_reduce":
            return values[node.inputs[0]]
        return evaluate(node, [values[i] for i in node.inputs], sizes)


def sent(run, whole):
    """What a process comes to next; None at its end."""
    try:
        return run.send(whole)
    except StopIteration:
        return None


class Lockstep(example.Example):
    name = "lockstep"

    def __init__(self, count):
        self.count = count
        self.programs = []

    def supports(self, node):
        return True

    def load(self, weights, progress=None, *, beside=None):
        return Loaded(weights)

    def compile(self, outputs, weights, bounds, *, writes=(), beside=None):
        made = [shard([*outputs, *writes], rank, self.count) for rank in range(self.count)]
        graphs = [lower(graph, self.supports, self.name, None) for graph, _ in made]
        parts = [parts for _, parts in made]
        self.programs.append(Program(graphs, parts, len(outputs), weights, beside.kept if beside else None))
        return self.programs[-1]
