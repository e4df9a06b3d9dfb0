"""What the native kernels run: op, dtypes, shapes. Anything else is decomposed, or refused at load."""

from __future__ import annotations

from collections.abc import Callable

from puna.backends.cpu.weights import has_product
from puna.graph.tensor import Tensor

ELEMENTS = ("F32", "I32", "BOOL")
KEPT = {"F32": 0, "F16": 1, "BF16": 2, "Q8_0": 3}
"""How states may keep their values; the number is the kernels'."""
MAX_RANK = 6


def _plain(node: Tensor) -> bool:
    tensors = (node, *node.sources)
    return all(t.dtype.name in ELEMENTS and len(t.shape) <= MAX_RANK for t in tensors)


def has_kernel(weight: Tensor) -> bool:
    """Whether a tensor is a stored matrix that the product kernels read."""
    return weight.op == "weight" and len(weight.shape) == 2 and has_product(weight.dtype)


def _linear(node: Tensor) -> bool:
    _, w, bias = node.inputs
    return has_kernel(w) and (bias is None or bias.op == "weight" or bias.dtype.name == "F32")


def _experts(node: Tensor) -> bool:
    _, w, _, bias = node.inputs
    known = w.op == "weight" and has_product(w.dtype)
    return known and (bias is None or bias.op == "weight" or bias.dtype.name == "F32")


def _dequantize(node: Tensor) -> bool:
    (x,) = node.sources
    return x.op == "weight" or x.dtype.name in KEPT


def _write(node: Tensor) -> bool:
    target, _, values = node.sources
    whole = target.dtype.name != "Q8_0" or (len(target.shape) > 1 and target.shape[-1] % 32 == 0)  # type: ignore[operator]
    return target.dtype.name in KEPT and values.dtype.name == "F32" and whole


def _attention(node: Tensor) -> bool:
    _, k, v, *others = node.inputs
    if any(b is not None and b.op != "weight" and b.dtype.name != "F32" for b in others[5:]):
        return False
    kept = all(t.op in ("state", "write") and t.dtype.name in KEPT for t in (k, v))
    return kept and all(t.dtype.name != "Q8_0" or t.shape[2] % 32 == 0 for t in (k, v))


SPECIAL: dict[str, Callable[[Tensor], bool]] = {
    "linear": _linear,
    "experts": _experts,
    "embedding": lambda node: has_kernel(node.sources[1]),
    "dequantize": _dequantize,
    "write": _write,
    "attention": _attention,
    "all_reduce": lambda node: bool(node.attrs["count"] == 1),
}


def supports(node: Tensor) -> bool:
    """Whether there is a kernel for this node."""
    return SPECIAL.get(node.op, _plain)(node)
