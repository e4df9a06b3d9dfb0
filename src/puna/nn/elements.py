"""Functions of each element: activations, gates, bounds."""

from __future__ import annotations

from puna.graph import Tensor, constant
from puna.graph.ops import apply


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return apply("silu", x)


def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return apply("silu_mul", gate, up)


def clamped_swiglu(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    """g * sigmoid(alpha * g) * (u + 1), where g is at most `limit` and u between -limit and limit."""
    gate, up = (apply("minimum", x, constant(limit)) for x in (gate, up))
    return gate * sigmoid(gate * alpha) * (apply("maximum", up, constant(-limit)) + 1.0)


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x)."""
    return apply("gelu", x, approximate=False)


def gelu_tanh(x: Tensor) -> Tensor:
    """x * Phi(x), by the tanh approximation."""
    return apply("gelu", x, approximate=True)


def gelu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate) * up, by the tanh approximation."""
    return apply("gelu_mul", gate, up, approximate=True)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return apply("maximum", x, constant(0.0))


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0) squared."""
    positive = apply("maximum", x, constant(0.0))
    return positive * positive


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply("sigmoid", x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply("tanh", x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), as exact below 0 as above."""
    e = apply("exp", -apply("abs", x))
    u = e + 1.0
    rounded = apply("equal", u, constant(1.0))  # what u lost of e comes back as a factor
    small = apply("where", rounded, e, apply("log", u) * e / apply("where", rounded, constant(1.0), u - 1.0))
    return apply("maximum", x, constant(0.0)) + small


def softcap(x: Tensor, limit: float) -> Tensor:
    """tanh(x / limit) * limit."""
    return apply("tanh", x / limit) * limit


def clamp(x: Tensor, limit: float) -> Tensor:
    """Each element, but no further from 0 than a limit."""
    return apply("maximum", apply("minimum", x, constant(limit)), constant(-limit))


def at_least(x: Tensor, limit: float) -> Tensor:
    """The larger of each element and a number."""
    return apply("maximum", x, constant(limit))


def exp(x: Tensor) -> Tensor:
    """e to the power of each element."""
    return apply("exp", x)


def root(x: Tensor) -> Tensor:
    """Square root."""
    return apply("sqrt", x)
