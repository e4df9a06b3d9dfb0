"""A model's graph cut into stages: the embedding, each block, the output; what leaves one is an input of the next.

Which weights a node depends on says to which block it belongs, so architectures mark nothing. Blocks that share a
cache, which no input can carry, stay in one stage. It runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from puna.graph import Tensor, input_
from puna.graph.tensor import topological

_BLOCK = re.compile(r"(enc\.|dec\.)?blk\.(\d+)\.")
DECODER = 1 << 16
"""The number of the first block of a decoder that stands behind an encoder."""
_LEAVES = frozenset({"input", "weight", "state", "constant"})

Places = Mapping[Tensor, int]
"""0: the embedding, i + 1: block i, and one more: the output. Nodes that every stage can compute itself have none."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the graph that runs by itself.

    `takes` and `gives` are numbers of streams: the input `stream.<number>` of this stage's graph, and what each of
    `outputs` is to later stages. `main` are the places in `gives` that hold hidden states, or the model's output.
    """

    name: str
    blocks: tuple[int, ...]
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    outputs: tuple[Tensor, ...]
    main: tuple[int, ...]
    weights: tuple[str, ...]


def block_of(weight: str) -> int | None:
    """The block that a tensor belongs to by its GGUF name; None for one of the whole model."""
    match = _BLOCK.match(weight)
    return int(match[2]) + (DECODER if match[1] == "dec." else 0) if match else None


def cut(output: Tensor, hidden_size: int) -> list[Stage]:
    """The stages of a whole model's graph, in order; the last one gives `output`."""
    order = topological([output])
    n_blocks = 1 + max((b for n in order if n.op == "weight" and (b := block_of(n.name)) is not None), default=-1)
    homes, groups = _grouped(order, _places(order, n_blocks, hidden_size))
    readers = _crossing(order, homes, output)
    numbers = {node: i for i, node in enumerate(readers)}
    stages = []
    for i, places in enumerate(groups):
        takes = [n for n, later in readers.items() if i in later]
        gives = [n for n in readers if homes[n] == i]
        given = {n: input_(f"stream.{numbers[n]}", n.shape, n.dtype) for n in takes}
        outputs = _copied(order, homes, i, given, gives)
        blocks = tuple(place - 1 for place in places if 1 <= place <= n_blocks)
        stages.append(
            Stage(
                name=_name(places, blocks),
                blocks=blocks,
                takes=tuple(numbers[n] for n in takes),
                gives=tuple(numbers[n] for n in gives),
                outputs=tuple(outputs),
                main=_main(gives, output, hidden_size),
                weights=tuple(sorted({n.name for n in topological(outputs) if n.op == "weight"})),
            )
        )
    return stages


def _places(order: Sequence[Tensor], n_blocks: int, hidden_size: int) -> dict[Tensor, int]:
    """Where each node belongs that depends on the tokens or on a block's weights."""
    own: dict[Tensor, int] = {}
    places: dict[Tensor, int] = {}
    for node in order:
        if node.op == "weight":
            block = block_of(node.name)
            own[node] = -1 if block is None else block + 1
        elif node.op == "input" and node.name == "tokens":
            own[node] = 0
        elif node.op not in _LEAVES:
            sources = node.sources
            place = max((own.get(s, -1) for s in sources), default=-1)
            whole = any(s.op == "weight" and block_of(s.name) is None for s in sources)
            wanted = node.shape[1:] == (hidden_size,) and any(s.op == "input" and s.name == "outputs" for s in sources)
            behind = place == n_blocks and (whole or wanted)  # the last block is
            own[node] = n_blocks + 1 if behind else place
            if own[node] >= 0:
                places[node] = own[node]
    return places


def _grouped(order: Sequence[Tensor], places: Places) -> tuple[dict[Tensor, int], list[list[int]]]:
    """The stage of each node, and the places in each stage: one, or several that cannot be cut apart."""
    joined = set()  # a place that cannot be cut from the one before it
    for node in order:
        for source in node.sources:
            if source.op == "write" and node in places:
                joined |= set(range(places[source] + 1, places[node] + 1))
    groups: list[list[int]] = []
    for place in sorted(set(places.values())):
        if place in joined:
            groups[-1].append(place)
        else:
            groups.append([place])
    stage_of = {place: i for i, group in enumerate(groups) for place in group}
    return {node: stage_of[place] for node, place in places.items()}, groups


def _crossing(order: Sequence[Tensor], homes: Places, output: Tensor) -> dict[Tensor, set[int]]:
    """The nodes that leave their stage, with the stages that read them; the output leaves its own."""
    found: dict[Tensor, set[int]] = {}
    for node in order:
        for source in node.sources:
            if node in homes and source in homes and homes[source] < homes[node]:
                found.setdefault(source, set()).add(homes[node])
    found.setdefault(output, set())
    return {node: found[node] for node in order if node in found}


def _copied(
    order: Sequence[Tensor], homes: Places, stage: int, given: Mapping[Tensor, Tensor], wanted: Sequence[Tensor]
) -> list[Tensor]:
    """The stage's nodes on inputs in place of what earlier stages give."""
    new = dict(given)
    for node in order:
        if node in new or homes.get(node, stage) != stage:
            continue
        inputs = tuple(i if i is None else new[i] for i in node.inputs)
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        new[node] = node if same else Tensor(node.op, inputs, node.attrs, node.shape, node.dtype)
    return [new[node] for node in wanted]


def _main(gives: Sequence[Tensor], output: Tensor, hidden_size: int) -> tuple[int, ...]:
    if output in gives:
        return (list(gives).index(output),)
    return tuple(i for i, n in enumerate(gives) if n.shape[-1] == hidden_size) or tuple(range(len(gives)))


def _name(places: Sequence[int], blocks: Sequence[int]) -> str:
    if not blocks:
        return "embedding" if places[0] == 0 else "output"
    part = "decoder " if blocks[0] >= DECODER else ""
    first, last = blocks[0] % DECODER, blocks[-1] % DECODER
    return f"{part}block {first}" if len(blocks) == 1 else f"{part}blocks {first}-{last}"
