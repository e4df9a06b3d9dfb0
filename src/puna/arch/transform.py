"""The changes that tensors need on their way from HF to GGUF, as data: a kind and its numbers.

What a kind does to shapes and values is a row of `puna.create.transforms`; nothing is computed here. A chain of them is
done from left to right. "Rows" are a vector's elements, a matrix's rows, and those of each matrix of a stack.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transform:
    """One change, by name."""

    kind: str
    arguments: tuple[float, ...] = ()

    def __str__(self) -> str:
        return self.kind + (f"({', '.join(map(str, self.arguments))})" if self.arguments else "")


def permute_rope(heads: int) -> Transform:
    """Rows of each head from HF's halves (i with i + D/2) to ggml's pairs (2i with 2i + 1)."""
    return Transform("permute_rope", (heads,))


def rows(start: int, stop: int, step: int = 1) -> Transform:
    """Some of the rows: a part of a fused tensor, or (step 2) those of two that alternate."""
    return Transform("rows", (start, stop, step))


def last_rows(count: int) -> Transform:
    """So many rows at the end: of one tensor of gates over ups the ups, of ups alone all."""
    return Transform("last_rows", (count,))


def pad_rows(count: int) -> Transform:
    """At least so many rows: those that are missing at the end are like the first."""
    return Transform("pad_rows", (count,))


def regroup(groups: int, *sizes: int) -> Transform:
    """Rows that come as `groups` of parts with these sizes each: first part of all groups, then the second, and so on.

    So q, k, v that are interleaved by head become q over k over v, from which `rows` takes one.
    """
    return Transform("regroup", (groups, *sizes))


def regroup_after(start: int, groups: int, *sizes: int) -> Transform:
    """As `regroup`, of the rows from `start` on; those before them stay."""
    return Transform("regroup_after", (start, groups, *sizes))


def transpose() -> Transform:
    """The last two axes change places: (in, out) to (out, in), for each matrix of a stack."""
    return Transform("transpose")


def split_heads(heads: int) -> Transform:
    """(heads * D, ...) to (heads, D, ...): a matrix for each head, whose rows `rows` and `transpose` then mean."""
    return Transform("split_heads", (heads,))


def join_heads() -> Transform:
    """(heads, D, ...) to (heads * D, ...)."""
    return Transform("join_heads")


def squeeze() -> Transform:
    """Axes of size 1 go: a depthwise convolution (channels, 1, k) to (channels, k)."""
    return Transform("squeeze")


def reshape(*shape: int) -> Transform:
    """The same elements in order in another shape, of which one size may be -1: (heads,) to (heads, 1)."""
    return Transform("reshape", shape)


def apart() -> Transform:
    """Each vector with two axes of size 1 before it: (n, D) to (n, 1, 1, D), and (1, 1, D) as it is."""
    return Transform("apart")


def plus_one() -> Transform:
    """A norm that multiplies by 1 + w is stored as 1 + w."""
    return Transform("plus_one")


def negative_exp() -> Transform:
    """Mamba's A is stored as itself, not as its logarithm: -exp(A_log)."""
    return Transform("negative_exp")


def tanh() -> Transform:
    """A gate that multiplies by tanh(w) is stored as tanh(w)."""
    return Transform("tanh")


def scale(factor: float) -> Transform:
    """Times a number."""
    return Transform("scale", (factor,))


def scale_rows(*parts: tuple[int, float]) -> Transform:
    """So many rows times a number, then the next ones times theirs: together all rows."""
    return Transform("scale_rows", tuple(each for part in parts for each in part))
