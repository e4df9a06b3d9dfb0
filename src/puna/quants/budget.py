"""Types for a size: which type each tensor gets so that a model fits, by the error that each type was measured to make.

The error of a matrix in a type is what it does to its output, relative to that output: with weights w, their stored
values v and the mean squares s of the inputs (1 where no importance is known),

    error = sum over rows and columns of s (v - w)^2  /  the same sum of s w^2

that is E|dy|^2 / E|y|^2 of y = W x for inputs without correlation. Matrices of blocks count alike, whatever their size:
the noise of each is a part of one of the 2 n terms that n blocks add to the residual stream, so a small matrix deserves
bits that cost little. The output matrix counts 2 n times: its noise is that of the logits. The plan has the least sum:
on each matrix' convex hull of error over bytes, steps are taken in order of gain per byte until none fits (the
Lagrangian's solution), and what is left is filled with whatever gains most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import ceil, prod
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DTYPES, Stored
from puna.errors import ConversionError
from puna.machine.threads import default_threads
from puna.quants import CODECS, dequantize, quantize
from puna.quants.mixes import NEED_IMPORTANCE, ONLY
from puna.quants.recipe import is_kept

SAMPLE = 1 << 16
"""Weights of a tensor that are measured; its rows are taken at equal distances."""

LEAST_ROWS = 32

MOST_BITS = 32
"""Of a target; no weight has more."""

ALIGNMENT = 32
"""Bytes; each tensor in a file begins at a multiple."""

CANDIDATES = (
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"),
    *(
        "Q2_K",
        "Q3_K",
        "IQ3_S",
        "IQ4_XS",
        "IQ4_NL",
        "Q4_0",
        "Q4_1",
        "Q4_K",
        "Q5_0",
        "Q5_1",
        "Q5_K",
        "Q6_K",
        "Q8_0",
        "F16",
    ),
)
"""Types that are tried, besides the one a tensor has; those of the first row only where importance is known."""

Progress = Callable[[str, int, int], None]


class Importance(Protocol):
    """Where the mean squares of inputs come from, such as an open importance matrix."""

    def importance(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """(columns,) or (experts, columns), or None where they are not known."""
        ...


class Option(NamedTuple):
    """A type that a tensor may get: what it takes and the relative error that it makes."""

    nbytes: int
    error: float
    type: str


Options = Mapping[str, Sequence[Option]]


def plan_for_size(
    tensors: Mapping[str, Stored],
    *,
    nbytes: int | None = None,
    bpw: float | None = None,
    arch: str = "",
    imatrix: Importance | None = None,
    candidates: Sequence[str] | None = None,
    threads: int | None = None,
    on_progress: Progress | None = None,
    head: Callable[[int], int] = lambda nbytes: 0,
) -> dict[str, str]:
    """Return the type of every tensor, so that all of them take at most `nbytes`, or `bpw` bits for each weight.

    The size is that of tensor data with the padding between tensors. `head` says for a target `nbytes` how many of
    them are not the tensors', but metadata before them. ConversionError for a target that is none, where even the
    smallest types are larger, for a type that is no candidate, or a tensor that cannot be measured.
    """
    check_target(nbytes, bpw)
    weights = sum(prod(t.shape) for t in tensors.values())
    room = int(weights * bpw / 8) if bpw is not None else (nbytes or 0) - head(nbytes or 0)
    free = [name for name, t in tensors.items() if _may_change(name, t, arch)]
    options = measure({n: tensors[n] for n in free}, imatrix, _known(candidates), threads, on_progress)
    fixed = sum(padded(t.dtype.nbytes(t.shape)) for name, t in tensors.items() if name not in options)
    least = fixed + sum(min(o.nbytes for o in each) for each in options.values())
    if least > room:
        wanted = f"{bpw:g} bit{'' if bpw == 1 else 's'} per weight" if bpw is not None else f"{nbytes:,} bytes"
        found = f"{ceil(800 * least / weights) / 100:.2f} bits per weight"
        found = found if bpw is not None else f"a file of {_with_head(least, head):,} bytes ({found} without metadata)"
        raise ConversionError(
            f"quantize: the target of {wanted} is too small: with the smallest types it is {found}; "
            f"{'that' if imatrix else 'that, or an importance matrix,'} would work"
        )
    chosen = choose(weighed(options, tensors), room - fixed)
    return {name: chosen[name].type if name in chosen else t.dtype.name for name, t in tensors.items()}


def check_target(nbytes: int | None, bpw: float | None) -> None:
    """ConversionError for a target that no file can have, or both kinds of targets at once, or none."""
    if (nbytes is None) == (bpw is None):
        raise ConversionError("quantize: a target is either a size or bits per weight; one of them would work")
    if bpw is not None and not 0 < bpw <= MOST_BITS:
        raise ConversionError(
            f"quantize: a target of {bpw:g} bits per weight; more than 0 and at most {MOST_BITS}, such as 4.5, "
            "would work"
        )
    if nbytes is not None and nbytes < 1:
        raise ConversionError(f"quantize: a target of {nbytes:,} bytes; a size such as 700M or 4G would work")


def _with_head(tensors: int, head: Callable[[int], int]) -> int:
    """The least target that so many bytes of tensors fit in: what the head says of it has a length itself."""
    nbytes = tensors
    while (needed := tensors + head(nbytes)) > nbytes:
        nbytes = needed
    return nbytes


def measure(
    tensors: Mapping[str, Stored],
    imatrix: Importance | None = None,
    candidates: Sequence[str] = CANDIDATES,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, list[Option]]:
    """Return what each tensor may become, with sizes and errors; a type that does not fit its rows is left out.

    `on_progress` is called with the name of a tensor, the bytes of those done, and of all.
    """
    sizes = {name: t.dtype.nbytes(t.shape) for name, t in tensors.items()}
    done = 0
    found = {}
    with ThreadPoolExecutor(threads or default_threads()) as pool:
        results = pool.map(lambda name: _options(name, tensors[name], imatrix, candidates), tensors)
        for name, options in zip(tensors, results, strict=True):
            found[name] = options
            done += sizes[name]
            if on_progress:
                on_progress(name, done, sum(sizes.values()))
    return found


def weighed(options: Options, names: Iterable[str]) -> dict[str, list[Option]]:
    """Return the options with errors times what the matrix counts, in a model that has tensors of these `names`."""
    known = set(names)
    blocks = len({name.split(".")[1] for name in known if name.startswith("blk.")})
    output = "output.weight" if "output.weight" in known else "token_embd.weight"
    return {
        name: [option._replace(error=option.error * (max(2 * blocks, 1) if name == output else 1)) for option in each]
        for name, each in options.items()
    }


def choose(options: Options, nbytes: int) -> dict[str, Option]:
    """Return one option for each tensor, with the least sum of errors that `nbytes` allow."""
    hulls = {name: _hull(each) for name, each in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    left = nbytes - sum(option.nbytes for option in chosen.values())
    steps = [(_gain(a, b), name, b) for name, hull in hulls.items() for a, b in pairwise(hull)]
    stuck: set[str] = set()
    for _, name, option in sorted(steps, key=lambda step: -step[0]):
        more = option.nbytes - chosen[name].nbytes
        if name not in stuck and more <= left:
            chosen[name], left = option, left - more
        else:
            stuck.add(name)
    while fill := [
        (_gain(chosen[name], option), name, option)
        for name, each in options.items()
        for option in each
        if 0 < option.nbytes - chosen[name].nbytes <= left and option.error < chosen[name].error
    ]:
        _, name, option = max(fill, key=lambda step: step[0])
        chosen[name], left = option, left - option.nbytes + chosen[name].nbytes
    return chosen


def padded(nbytes: int) -> int:
    """Bytes of a tensor with the padding behind it."""
    return nbytes + -nbytes % ALIGNMENT


def relative_error(rows: NDArray[np.float32], kind: str, importance: NDArray[np.float32] | None = None) -> float:
    """Return the error of (rows, columns) in a type; `importance` is (columns,) or of the shape of the rows."""
    weights = np.float64(1) if importance is None else importance.astype(np.float64)
    raw = quantize(rows, kind, importance)
    wrong = dequantize(raw, kind, rows.shape).astype(np.float64) - rows
    power = float((weights * np.square(rows, dtype=np.float64)).sum())
    return float((weights * wrong * wrong).sum()) / power if power else 0.0


def _may_change(name: str, tensor: Stored, arch: str) -> bool:
    floats = tensor.dtype.quantized or tensor.dtype.is_float
    return floats and not is_kept(name, tensor.shape) and (arch not in ONLY or bool(ONLY[arch].fullmatch(name)))


def _known(candidates: Sequence[str] | None) -> Sequence[str]:
    kinds = CANDIDATES if candidates is None else tuple(kind.upper() for kind in candidates)
    if unknown := [kind for kind in kinds if kind not in CODECS or not CODECS[kind].encodes]:
        raise ConversionError(f"quantize: type {unknown[0]!r} cannot be written; {', '.join(CANDIDATES)} would work")
    return kinds


def _options(name: str, tensor: Stored, imatrix: Importance | None, candidates: Sequence[str]) -> list[Option]:
    importance = None if imatrix is None else imatrix.importance(name, tensor.shape)
    rows, importance = _sample(tensor, importance)
    found = {tensor.dtype.name: Option(padded(tensor.dtype.nbytes(tensor.shape)), 0.0, tensor.dtype.name)}
    for kind in candidates:
        dtype = DTYPES[kind]
        missing = kind in NEED_IMPORTANCE and importance is None
        if kind in found or missing or tensor.shape[-1] % dtype.block_size or dtype.bits >= tensor.dtype.bits:
            continue
        try:
            error = relative_error(rows, kind, importance)
        except ConversionError as error_:
            raise ConversionError(f"measuring {name!r}: {error_}") from error_
        found[kind] = Option(padded(dtype.nbytes(tensor.shape)), error, kind)
    return list(found.values())


def _sample(
    tensor: Stored, importance: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Rows at equal distances (rows, columns), and their importance: of their columns, or of their experts'."""
    columns, count = tensor.shape[-1], prod(tensor.shape[:-1])
    index = np.unique(np.linspace(0, count - 1, min(count, max(SAMPLE // columns, LEAST_ROWS))).astype(np.int64))
    if tensor.dtype.name in CODECS:
        raw = tensor.raw.reshape(count, -1)[index]
        rows = dequantize(raw, tensor.dtype.name, (len(index), columns))
    else:
        rows = np.asarray(tensor.numpy(), np.float32).reshape(count, columns)[index]
    if importance is not None and importance.ndim == 2:
        importance = importance[index * len(importance) // count]
    return rows, importance


def _hull(options: Sequence[Option]) -> list[Option]:
    """The options on the lower convex hull of error over bytes, by size."""
    hull: list[Option] = []
    for option in sorted(options):
        if hull and option.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        if hull and option.nbytes == hull[-1].nbytes:
            hull.pop()
        hull.append(option)
    return hull


def _gain(a: Option, b: Option) -> float:
    """Error that a step saves for each byte that it takes."""
    return (a.error - b.error) / (b.nbytes - a.nbytes) if b.nbytes > a.nbytes else float("inf")
