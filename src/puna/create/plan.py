"""What a conversion is going to write, decided from headers alone: types, metadata, files, sizes, memory.

Nothing large is read here. `types_of` says which rule chose each type; `puna.create.stream` carries a plan out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from puna.create.edits import edited
from puna.create.original import Original
from puna.create.report import ConversionReport, KeyReport, TensorReport, shown
from puna.create.shards import Shard, cut
from puna.create.tensors import Converted, memory_of
from puna.create.transforms import why
from puna.dtypes import DTYPES, DType, Stored
from puna.errors import ConversionError
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.imatrix import Imatrix, open_imatrix
from puna.formats.mapped import MappedTensor
from puna.quants.recipe import Recipe, file_type, is_kept, load_recipe, plan_types, role_of

OVERHEAD = 60 << 20
"""Memory beside tensors: Python, NumPy, a vocabulary."""

PathOrText = str | PathLike[str]


@dataclass(frozen=True)
class Quantizing:
    """What was asked for: a mix or a recipe, and an importance matrix with the name that metadata gives it."""

    mix: str | None
    recipe: Recipe | None
    imatrix: Imatrix | None
    said: str
    matrix_name: str = ""

    @classmethod
    def of(
        cls, quantize: str | None, recipe: PathOrText | Recipe | None, imatrix: PathOrText | Imatrix | None
    ) -> Quantizing:
        """Read the files that are named; ConversionError or FormatError says what is wrong with them."""
        for what, value, kind in (("recipe", recipe, Recipe), ("imatrix", imatrix, Imatrix)):
            if value is not None and not isinstance(value, str | PathLike | kind):
                raise ConversionError(f"converting: {what} is a {type(value).__name__}; the path of a file would work")
        mix = file_type(quantize) if quantize else None
        rules = load_recipe(recipe) if isinstance(recipe, str | PathLike) else recipe
        matrix = open_imatrix(imatrix) if isinstance(imatrix, str | PathLike) else imatrix
        if matrix is not None and not (mix or rules):
            raise ConversionError("converting: imatrix is for quantizing; quantize='Q4_K_M' would use it")
        said = " and ".join(filter(None, (mix or (rules.base if rules else None), "a recipe" if rules else None)))
        name = Path(imatrix).name if isinstance(imatrix, str | PathLike) else ""
        return cls(mix, rules, matrix, said, name)

    @property
    def file_type(self) -> str | None:
        """The file type that metadata announces, None where nothing is quantized."""
        return self.mix or (self.recipe.base if self.recipe else None)

    def __bool__(self) -> bool:
        return bool(self.mix or self.recipe)


@dataclass(frozen=True)
class Plan:
    """What will be written; `shards` are the files, `tensors` all of theirs."""

    original: Original
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    shards: Sequence[Shard]
    recipe: str
    threads: int

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.dtype.nbytes(tensor.shape) for tensor in self.tensors.values())

    @property
    def memory(self) -> int:
        """About how much memory carrying it out takes: as many of the largest pieces as there are threads."""
        largest = sorted((memory_of(tensor) for tensor in self.tensors.values()), reverse=True)
        return OVERHEAD + sum(largest[: self.threads])

    def report(self, out: Path) -> ConversionReport:
        """Everything that is known before it is carried out."""
        return ConversionReport(
            source=str(self.original.path),
            out=str(out),
            architecture=self.original.arch,
            parameters=sum(prod(tensor.shape) for tensor in self.tensors.values()),
            nbytes=self.nbytes,
            seconds=0.0,
            tensors=tuple(report_tensor(name, tensor) for name, tensor in self.tensors.items()),
            left_out=self.original.left_out,
            keys=tuple(self._keys()),
            warnings=self.original.warnings,
            files=tuple(str(shard.path) for shard in self.shards),
            recipe=self.recipe,
            digest=self.original.digest,
            memory=self.memory,
        )

    def _keys(self) -> list[KeyReport]:
        values, origins = self.original.values, self.original.origins
        return [
            KeyReport(key, origins.get(key, "asked for"), shown(values.get(key, _plain(value))))
            for key, value in self.metadata.items()
        ]


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def plan(
    original: Original,
    out: Path,
    quantizing: Quantizing,
    *,
    shard_size: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Plan:
    """Decide everything; ConversionError says what cannot be done."""
    tensors = types_of(original, quantizing) if quantizing else dict(original.tensors)
    written = dict(original.metadata) | _quantized_metadata(original, quantizing)
    written = edited(written, original.types, metadata or {})
    shards = cut(out, written, tensors, shard_size)
    return Plan(original, written, tensors, shards, quantizing.said or "as it is", threads)


def types_of(original: Original, quantizing: Quantizing) -> dict[str, Stored]:
    """The tensors in the types that a mix or a recipe gives them; each is quantized from its source, once."""
    shapes = {name: (tensor.shape, _kept_type(tensor).name) for name, tensor in original.tensors.items()}
    matrix = quantizing.imatrix
    types = plan_types(
        shapes,
        quantizing.mix,
        arch=original.arch,
        metadata=original.values,
        imatrix=False if matrix is None else matrix.sums,
        recipe=quantizing.recipe,
    )
    return {name: retyped(name, tensor, DTYPES[types[name]], quantizing) for name, tensor in original.tensors.items()}


def _kept_type(tensor: Stored) -> DType:
    return tensor.dtype


def retyped(name: str, tensor: Stored, wanted: DType, quantizing: Quantizing) -> Stored:
    """The tensor in another type, with the importance that is known for it; unchanged where it has that type."""
    if wanted is tensor.dtype:
        return tensor
    importance = quantizing.imatrix.importance(name, tensor.shape) if quantizing.imatrix else None
    rule = _rule(name, tensor, wanted, quantizing)
    if isinstance(tensor, Converted):
        return replace(tensor, dtype=wanted, importance=importance, why=rule)
    return Converted(name, (tensor,), (name,), wanted, importance=importance, why=rule)


def _rule(name: str, tensor: Stored, wanted: DType, quantizing: Quantizing) -> str:
    if is_kept(name, tensor.shape):
        return f"{quantizing.said}: kept"
    role = role_of(name)
    return f"{quantizing.said}: {f'rules for {role}' if role else 'its own type'} give {wanted}"


def _quantized_metadata(original: Original, quantizing: Quantizing) -> dict[str, Any]:
    """Keys that say how it was quantized, the importance matrix's as llama-quantize writes them."""
    if not quantizing:
        return {}
    found: dict[str, Any] = {"general.quantization_version": np.uint32(2), "puna.recipe": quantizing.said}
    if quantizing.file_type:
        found["general.file_type"] = np.uint32(FILE_TYPE_IDS[quantizing.file_type])
    if original.is_gguf and "puna.source.digest" not in original.metadata:
        found["puna.source.digest"] = original.digest
    if (matrix := quantizing.imatrix) is not None:
        found |= {
            "quantize.imatrix.file": quantizing.matrix_name,
            "quantize.imatrix.dataset": ", ".join(matrix.datasets),
            "quantize.imatrix.entries_count": np.uint32(len(matrix.sums)),
            "quantize.imatrix.chunks_count": np.uint32(matrix.chunks),
        }
    return found


def report_tensor(name: str, tensor: Stored) -> TensorReport:
    """What becomes of one tensor."""
    made = tensor if isinstance(tensor, Converted) else None
    return TensorReport(
        name=name,
        source=made.source_name if made else (name if isinstance(tensor, MappedTensor) else "config.json"),
        shape=tensor.shape,
        source_dtype=(made.source_dtype if made else tensor.dtype).name,
        dtype=tensor.dtype.name,
        transform=", ".join(chain(["stack"] * (made is not None and made.stacked), map(str, made.transforms)))
        if made
        else "",
        nbytes=tensor.dtype.nbytes(tensor.shape),
        why=why(made.transforms) if made else "",
        rule=made.why if made else "as it is",
        sources=made.part_names if made else (),
    )
