"""What each block is given of the tokens themselves, besides what comes to it."""

from __future__ import annotations

from math import sqrt
from typing import Any

from puna.graph import Tensor
from puna.nn.elements import gelu_mul
from puna.nn.norms import rms_norm
from puna.nn.products import embedding, linear
from puna.nn.shapes import heads


def per_layer_inputs(net: Any, tokens: Tensor, x: Tensor, blocks: int, eps: float) -> Tensor:
    """What each block is given of the tokens (T,) and their (T, hidden) embeddings: (T, blocks, size)."""
    projected = heads(linear(x, net.per_layer_model_proj) / sqrt(_size(x)), blocks)
    own = heads(embedding(tokens, net.per_layer_token_embd), blocks)
    return (rms_norm(projected, net.per_layer_proj_norm, eps) + own * sqrt(_size(own))) * sqrt(0.5)


def per_layer(block: Any, x: Tensor, inputs: Tensor, place: int) -> Tensor:
    """(T, hidden) gates what the block at `place` is given (see `per_layer_inputs`), projected to (T, hidden)."""
    own = inputs.slice(1, place, place + 1).reshape(inputs.shape[0], inputs.shape[2])
    return linear(gelu_mul(linear(x, block.inp_gate), own), block.proj)


def _size(x: Tensor) -> float:
    """Of the last axis, which is not symbolic."""
    return float(x.shape[-1])  # type: ignore[arg-type]
