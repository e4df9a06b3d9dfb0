"""What an architecture is made of, by the graphs of the tests' tiny checkpoints, and what it was held to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from golden.cases import CASES
from golden.checkpoints import DATA, write_checkpoint
from golden.naive import NAIVE
from golden.stand_ins import STAND_INS
from puna.arch.base import Architecture, Spec
from puna.arch.binding import graph_of
from puna.create.checkpoint import open_checkpoint
from puna.graph import Tensor, topological

WITHOUT_BIAS = 8
"""Inputs of op attention but its bias."""


class Made(NamedTuple):
    """One tiny checkpoint: its hyperparameters, the memory of its blocks, and the nodes of its graph."""

    hp: Any
    specs: list[Spec]
    nodes: list[Tensor]

    def attrs(self, op: str, name: str) -> set[Any]:
        """What nodes of an op say of an attribute."""
        return {node.attrs.get(name) for node in self.nodes if node.op == op}


def facts(arch: Architecture) -> list[str]:
    """The cells of its row: kind, attention, positions, memory, what it was proven by, what llama.cpp writes too."""
    own = lambda config: config["architectures"][0] in arch.hf_classes and arch.claims(config)  # noqa: E731
    cases = [case for case, config in CASES.items() if own(config)]
    made = [_made(case) for case in cases]
    recorded = [case for case in cases if (DATA / f"{case}.npy").exists()]
    alike = [case for case in cases if (DATA / "llama_cpp" / f"{case}.json").exists()]
    by = "stand-in" if any(case in STAND_INS for case in recorded) else "transformers"
    by = "own reference" if any(case in NAIVE for case in recorded) else by
    proven = f"{by} ({len(recorded)})" if recorded else "own reference" if cases else "no"
    cells = [", ".join(dict.fromkeys(each for one in made for each in of(one))) for of in COLUMNS]
    return [*cells, proven, str(len(alike) or "no")]


@cache
def _made(case: str) -> Made:
    with TemporaryDirectory() as folder:
        opened = open_checkpoint(write_checkpoint(Path(folder) / "hf", case))
        nodes = topological([graph_of(opened.arch, opened.hparams, opened.tensors)])
        return Made(opened.hparams, list(opened.arch.caches(opened.hparams)), nodes)


def kind(made: Made) -> Iterator[str]:
    """Encoder or decoder; of attention, of recurrences, or of both; with experts or without."""
    attends, remembers = (bool([s for s in made.specs if test(s)]) for test in (_attends, lambda s: s.recurrent))
    name = "encoder" if any(spec.encoder for spec in made.specs) else "decoder"
    name = "encoder and decoder" if any(spec.read for spec in made.specs) else name
    yield ("hybrid " if attends and remembers else "recurrent " if remembers else "") + name
    if getattr(made.hp, "n_experts", None):
        yield "mixture of experts"


def attention(made: Made) -> Iterator[str]:
    """Heads that share keys and values, latent ones, windows and chunks, and what bounds scores."""
    if not any(map(_attends, made.specs)):
        yield "none"
        return
    if getattr(made.hp, "kv_lora_rank", None):
        yield "latent"
    else:
        yield "grouped heads" if any(0 < spec.heads < made.hp.n_heads for spec in made.specs) else "all heads"
    if any(spec.encoder for spec in made.specs):
        yield "both ways"
    yield from (name for name in ("window", "chunk") if any(getattr(spec, name) for spec in made.specs))
    if made.attrs("attention", "softcap") - {0, None}:
        yield "bounded scores"


def positions(made: Made) -> Iterator[str]:
    """How a token knows where it is."""
    styles = sorted(made.attrs("rope", "style"))
    yield from (f"rotary, {style}" for style in styles)
    scaling = getattr(getattr(made.hp, "rope", None), "scaling", "none")
    if styles and scaling != "none":
        yield scaling
    weights = {node.name for node in made.nodes if node.op == "weight"}
    if "rope_freqs.weight" in weights:
        yield "frequency factors"
    if any(name.endswith("position_embd.weight") for name in weights):
        yield "learned"
    elif any(node.op == "attention" and len(node.inputs) > WITHOUT_BIAS for node in made.nodes):
        yield "a bias on scores by distance"
    elif not styles:
        yield "by order"


def memory(made: Made) -> Iterator[str]:
    """What blocks keep between steps."""
    for spec in dict.fromkeys(made.specs):
        if spec.encoder:
            yield "none"
        elif _attends(spec):
            kept = "a window" if spec.window else "a chunk" if spec.chunk else "all positions"
            yield "the encoder's text" if spec.read else kept
        if spec.recurrent:
            yield "a state for each sequence"


def _attends(spec: Spec) -> bool:
    return spec.heads > 0


COLUMNS = (kind, attention, positions, memory)
