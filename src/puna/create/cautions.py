"""What whoever asked for quantizing may not have meant: another model's importance, or weights quantized twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from puna.create.original import Original
from puna.dtypes import DType
from puna.errors import ConversionError
from puna.formats.imatrix import Imatrix, like
from puna.quants.recipe import is_kept


def check_model(matrix: Imatrix, original: Original) -> None:
    """ConversionError where no matrix has importance: it is another model's."""
    matrices = [name for name, tensor in original.tensors.items() if not is_kept(name, tensor.shape)]
    if matrices and not any(name in matrix.sums for name in matrices):
        theirs = next(iter(matrix.sums), "nothing")
        raise ConversionError(
            f"converting: the importance matrix is of another model: it has {theirs!r} and the like, and not one of "
            f"this model's matrices, such as {like(theirs, matrices)!r}; one that `puna imatrix` made of it would work"
        )


def coverage(matrix: Imatrix, changed: Collection[str], names: Collection[str]) -> list[str]:
    """Of matrices in blocks, for the others are not measured unless that is asked for."""
    blocks = [name for name in changed if name.startswith("blk.")]
    bare = [name for name in blocks if name not in matrix.sums]
    more = [name for name in matrix.sums if name.startswith("blk.") and name not in names]
    found = []
    if bare:
        found.append(
            f"{len(blocks) - len(bare)} of {len(blocks)} matrices have importance; {bare[0]!r} "
            f"{f'and {len(bare) - 1} more have' if len(bare) > 1 else 'has'} none: is the matrix this model's?"
        )
    if more:
        found.append(
            f"the importance matrix has {len(more)} that the model does not have, such as {more[0]!r}: "
            "is it this model's?"
        )
    return found


def twice(changed: Mapping[str, tuple[DType, DType]]) -> list[str]:
    """Of matrices that were quantized in the source already, with both types."""
    smaller = {name: pair for name, pair in changed.items() if pair[1].bits < pair[0].bits}
    larger = {name: pair for name, pair in changed.items() if name not in smaller}
    said = (
        (smaller, "the losses of both add up; quantizing the original gives a better file"),
        (larger, "they take no less room, and what was lost stays lost; quantizing the original gives a better file"),
    )
    return [
        f"{len(pairs)} quantized {'matrix is' if len(pairs) == 1 else 'matrices are'} quantized again "
        f"({_pairs(pairs)}): {why}"
        for pairs, why in said
        if pairs
    ]


def _pairs(changed: Mapping[str, tuple[DType, DType]]) -> str:
    """Which types became which, the most frequent first."""
    most = Counter(changed.values()).most_common()
    return ", ".join(f"{a.name} to {b.name}" for (a, b), _ in most[:3]) + (" ..." if len(most) > 3 else "")
