"""Norms over the last axis."""

from __future__ import annotations

from puna.graph import Tensor
from puna.graph.ops import apply
from puna.nn.declared import Weight


def rms_norm(x: Tensor, w: Weight | None, eps: float) -> Tensor:
    """Over the last axis."""
    return apply("rms_norm", x, None if w is None else w.weight, eps=float(eps))


def layer_norm(x: Tensor, w: Weight | None, eps: float) -> Tensor:
    """Over the last axis, with the weight's bias where it has one."""
    return apply("layer_norm", x, *((None, None) if w is None else (w.weight, w.bias)), eps=float(eps))
