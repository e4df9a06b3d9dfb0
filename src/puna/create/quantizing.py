"""Which type each tensor gets when quantizing was asked for, which rule gave it, and what metadata says about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from puna.create.cautions import check_model, coverage, twice
from puna.create.original import Original
from puna.create.shards import parse_size
from puna.create.tensors import Converted
from puna.dtypes import DTYPES, DType, Stored
from puna.errors import ConversionError
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.gguf_writer import lay_out
from puna.formats.imatrix import Imatrix, open_imatrix
from puna.quants.mixes import FILE_TYPES
from puna.quants.recipe import Recipe, file_type, is_kept, load_recipe, plan_types, role_of

if TYPE_CHECKING:
    from puna.store.blobs import Progress

Named = str | PathLike[str]


@dataclass(frozen=True)
class Quantizing:
    """What was asked for: a mix, a recipe over it or alone, or a target; and an importance matrix, and its file's name.

    A target is `nbytes` of the whole file, or `bpw` bits for each weight.
    """

    mix: str | None = None
    recipe: Recipe | None = None
    imatrix: Imatrix | None = None
    nbytes: int | None = None
    bpw: float | None = None
    matrix_name: str = ""

    @classmethod
    def of(
        cls,
        quantize: str | None,
        recipe: Named | Recipe | None,
        imatrix: Named | Imatrix | None,
        target_size: str | int | None = None,
        target_bpw: float | None = None,
    ) -> Quantizing:
        """Read the files that are named; ConversionError or FormatError says what is wrong, or does not go together."""
        for what, value, kind in (("recipe", recipe, Recipe), ("imatrix", imatrix, Imatrix)):
            if value is not None and not isinstance(value, str | PathLike | kind):
                raise ConversionError(f"converting: {what} is a {type(value).__name__}; the path of a file would work")
        asked = {
            "quantize or recipe": quantize or recipe,
            "target_size": target_size,
            "target_bpw": target_bpw,
        }
        if len(both := [name for name, value in asked.items() if value is not None]) > 1:
            raise ConversionError(f"converting: {' and '.join(both)} decide the same; one of them would work")
        if imatrix is not None and not both:
            raise ConversionError("converting: imatrix is for quantizing; quantize='Q4_K_M' would use it")
        nbytes = None if target_size is None else parse_size(target_size, "target size")
        if target_size is not None or target_bpw is not None:
            from puna.quants.budget import check_target

            check_target(nbytes, target_bpw)
        return cls(
            mix=file_type(quantize) if quantize else None,
            recipe=load_recipe(recipe) if isinstance(recipe, str | PathLike) else recipe,
            imatrix=open_imatrix(imatrix) if isinstance(imatrix, str | PathLike) else imatrix,
            nbytes=nbytes,
            bpw=target_bpw,
            matrix_name=Path(imatrix).name if isinstance(imatrix, str | PathLike) else "",
        )

    def __bool__(self) -> bool:
        return bool(self.mix or self.recipe or self.nbytes is not None or self.bpw is not None)

    @property
    def said(self) -> str:
        """What was asked for, for metadata and reports: it names no file."""
        if self.nbytes is not None:
            return f"at most {self.nbytes} bytes"
        if self.bpw is not None:
            return f"at most {self.bpw:g} bits per weight"
        base = self.mix or (self.recipe.base if self.recipe else None)
        return " and ".join(filter(None, (base, "a recipe" if self.recipe else None)))

    def types_of(
        self,
        original: Original,
        threads: int,
        on_progress: Progress | None = None,
        edits: Mapping[str, Any] | None = None,
    ) -> dict[str, Stored]:
        """The tensors in the types that they get; each is quantized from its source, once.

        `edits` are metadata that the file will have besides, for targets of size. ConversionError where the importance
        matrix is of another model.
        """
        if self.imatrix:
            check_model(self.imatrix, original)
        types = self._types(original, threads, on_progress, edits or {})
        return {name: self._retyped(name, tensor, DTYPES[types[name]]) for name, tensor in original.tensors.items()}

    def _types(
        self, original: Original, threads: int, on_progress: Progress | None, edits: Mapping[str, Any]
    ) -> Mapping[str, str]:
        if self.mix or self.recipe:
            return plan_types(
                {name: (tensor.shape, tensor.dtype.name) for name, tensor in original.tensors.items()},
                self.mix,
                arch=original.arch,
                metadata=original.values,
                imatrix=False if self.imatrix is None else self.imatrix.sums,
                recipe=self.recipe,
            )
        from puna.quants.budget import plan_for_size

        return plan_for_size(
            original.tensors,
            nbytes=self.nbytes,
            bpw=self.bpw,
            arch=original.arch,
            imatrix=self.imatrix,
            threads=threads,
            on_progress=on_progress,
            head=lambda nbytes: replace(self, nbytes=nbytes)._head(original, edits),
        )

    def _head(self, original: Original, edits: Mapping[str, Any]) -> int:
        """Bytes of the file that are not its tensors' with the padding that is usual."""
        from puna.quants.budget import ALIGNMENT

        metadata = original.edited(dict(original.metadata) | self.metadata(original, original.tensors), edits)
        tensors = [(name, t.shape, t.dtype) for name, t in original.tensors.items()]
        more = max(original.alignment - ALIGNMENT, 0) * len(tensors)
        return len(lay_out(metadata, tensors, alignment=original.alignment).head) + more

    def warnings(self, original: Original, tensors: Mapping[str, Stored]) -> list[str]:
        """What whoever asked may not have meant, of the `tensors` that `types_of` made of an original."""
        changed = {
            name: (_source(original.tensors[name]), tensor.dtype)
            for name, tensor in tensors.items()
            if tensor.dtype.quantized and tensor.dtype is not original.tensors[name].dtype
        }
        matrix = coverage(self.imatrix, changed, original.tensors) if self.imatrix else []
        return [*matrix, *twice({name: pair for name, pair in changed.items() if pair[0].quantized})]

    def _retyped(self, name: str, tensor: Stored, wanted: DType) -> Stored:
        """The tensor in another type, with the importance that is known for it; unchanged where it has that type."""
        rule = self._rule(name, tensor, wanted)
        if wanted is tensor.dtype:
            return replace(tensor, why=rule) if isinstance(tensor, Converted) and not tensor.why else tensor
        importance = self.imatrix.importance(name, tensor.shape) if self.imatrix else None
        if isinstance(tensor, Converted):
            return replace(tensor, dtype=wanted, importance=importance, why=rule)
        return Converted(name, (tensor,), (name,), wanted, importance=importance, why=rule)

    def _rule(self, name: str, tensor: Stored, wanted: DType) -> str:
        if is_kept(name, tensor.shape):
            return f"{self.said}: such tensors keep their type"
        if self.nbytes is not None or self.bpw is not None:
            return f"{self.said}: the least measured error"
        role = role_of(name)
        return f"{self.said}: {f'the rules for {role}' if role else 'its own type'}"

    def metadata(self, original: Original, tensors: Mapping[str, Stored]) -> dict[str, Any]:
        """Keys that say how it was quantized, those of the importance matrix as llama-quantize writes them."""
        if not self:
            return {}
        found: dict[str, Any] = {
            "general.quantization_version": np.uint32(2),
            "general.file_type": np.uint32(FILE_TYPE_IDS[self._file_type(tensors)]),
            "puna.recipe": self.said,
        }
        if original.is_gguf and "puna.source.digest" not in original.metadata:
            found["puna.source.digest"] = original.digest
        return found | self._matrix_metadata()

    def _file_type(self, tensors: Mapping[str, Stored]) -> str:
        """The mix that is announced: the one asked for, else the first one whose own type most weights have."""
        named = self.mix or (self.recipe.base if self.recipe else None)
        if named:
            return named
        sizes: Counter[str] = Counter()
        for tensor in tensors.values():
            sizes[tensor.dtype.name] += prod(tensor.shape)
        main = sizes.most_common(1)[0][0]
        mixes = [mix for mix, base in FILE_TYPES.items() if base == main and mix in FILE_TYPE_IDS]
        return next((mix for mix in mixes if mix.endswith("_M")), mixes[0] if mixes else "F16")

    def _matrix_metadata(self) -> dict[str, Any]:
        if self.imatrix is None:
            return {}
        return {
            "quantize.imatrix.file": self.matrix_name,
            "quantize.imatrix.dataset": ", ".join(self.imatrix.datasets),
            "quantize.imatrix.entries_count": np.uint32(len(self.imatrix.sums)),
            "quantize.imatrix.chunks_count": np.uint32(self.imatrix.chunks),
        }


def _source(tensor: Stored) -> DType:
    return tensor.source_dtype if isinstance(tensor, Converted) else tensor.dtype
