"""Cases of every op: small graphs with their inputs, from which conformance tests and micro-benchmarks are made.

Each case ends in a node of its op. Weights are given as float32 values and the dtype to store them in; states start at
zero and are filled by `write`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from puna.graph.cases import core, fused, recurrent
from puna.graph.cases.making import Case

__all__ = ["CASES", "Case", "cases"]

CASES: dict[str, Callable[[str], Iterator[Case]]] = {
    **dict.fromkeys(("neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh", "erf"), core.unary),
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum", "less", "equal"), core.binary),
    **dict.fromkeys(("and", "not"), core.logical),
    **dict.fromkeys(("sum", "max"), core.reduce),
    **dict.fromkeys(("rms_norm", "layer_norm"), fused.norm),
    **dict.fromkeys(("sigmoid", "silu", "gelu", "silu_mul", "gelu_mul"), fused.activation),
    "where": core.where,
    "cast": core.cast,
    "reshape": core.reshape,
    "permute": core.permute,
    "slice": core.slice_,
    "concat": core.concat,
    "expand": core.expand,
    "take": core.take,
    "iota": core.iota,
    "matmul": core.matmul,
    "dequantize": core.dequantize,
    "write": core.write,
    "linear": fused.linear,
    "embedding": fused.embedding,
    "softmax": fused.softmax,
    "rope": fused.rope,
    "attention": fused.attention,
    "top_k": fused.top_k,
    "experts": fused.experts,
    "all_reduce": fused.all_reduce,
    "causal_conv1d": recurrent.causal_conv1d,
    "recurrence": recurrent.recurrence,
}
"""What makes the cases of each op."""


def cases(op: str) -> list[Case]:
    """All cases of an op."""
    return list(CASES[op](op))
