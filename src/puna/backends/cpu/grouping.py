"""Which nodes between products of experts may have their rows in order by expert, as those lie after each other.

    experts, experts -> gated activation -> experts -> times shares -> sum over choices
    experts -> experts -> ...

A node of this chain is deferred (fuse.py) where all its readers take it in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from puna.graph.tensor import Tensor

ROW_OPS = frozenset({"silu", "gelu", "silu_mul", "gelu_mul"})


def grouped(outputs: Sequence[Tensor], consumers: Mapping[Tensor, list[Tensor]]) -> set[Tensor]:
    """Nodes whose readers all read them in order by expert; `consumers` has nodes after what they read."""
    found: set[Tensor] = set()
    for node in reversed(list(consumers)):
        readers = consumers[node]
        fits = choices(node) is not None or is_weighted(node)
        if fits and readers and node not in outputs and all(_takes(r, node, found) for r in readers):
            found.add(node)
    return found


def choices(node: Tensor) -> Tensor | None:
    """The ids by which a node's rows may be in order: of products, and of row ops between such."""
    if node.op == "experts":
        ids: Tensor = node.sources[2]
        return ids
    if node.op not in ROW_OPS or len(node.shape) != 3 or any(s.op != "experts" for s in node.sources):
        return None
    found = {choices(source) for source in node.sources}
    return found.pop() if len(found) == 1 else None


def is_weighted(node: Tensor) -> bool:
    """Whether a node is products of experts times one number for each choice."""
    return node.op == "mul" and any(_are_shares(b, a) for a, b in (node.sources, node.sources[::-1]))


def parts(weighted: Tensor) -> tuple[Tensor, Tensor]:
    """The products and the shares."""
    a, b = weighted.sources
    return (a, b) if _are_shares(b, a) else (b, a)


def _are_shares(shares: Tensor, y: Tensor) -> bool:
    return y.op == "experts" and tuple(shares.shape) == (*y.shape[:2], 1)


def _takes(reader: Tensor, node: Tensor, found: set[Tensor]) -> bool:
    if is_weighted(node):
        return reader.op == "sum" and reader.attrs["axis"] == 1
    if reader.op == "experts":
        same = reader.inputs[0] is node and reader.inputs[2] is choices(node) and node not in reader.inputs[1:]
        product = node if node.op == "experts" else node.sources[0]
        return same and reader.inputs[1].shape[0] == product.inputs[1].shape[0]
    return reader in found and node.op == "experts"
