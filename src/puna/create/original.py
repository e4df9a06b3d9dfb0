"""What is converted, of either kind: a checkpoint directory or a GGUF file, opened the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna.create.checkpoint import open_checkpoint
from puna.create.digest import digest_of
from puna.create.edits import edited, type_names
from puna.create.source import find_weights
from puna.dtypes import Stored
from puna.errors import ConversionError
from puna.formats.gguf import open_gguf
from puna.formats.gguf_kinds import no_model


@dataclass(frozen=True)
class Original:
    """A source: its metadata as values and as they are to be written, and its tensors, under their GGUF names."""

    path: Path
    values: Mapping[str, Any]
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    digest: str
    origins: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_gguf: bool = False
    alignment: int = 32
    arch: str = ""

    def edited(self, metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """`metadata` with the keys that a user wants; ConversionError where a value does not fit the type it has."""
        return edited(metadata, type_names(self.metadata), wanted) if wanted else metadata


def open_original(path: Path, dtype: str) -> Original:
    """Open either kind; `dtype` is for checkpoints. ConversionError, ModelError or FormatError says what is wrong."""
    path = find_weights(path) if path.is_dir() else path
    return _of_checkpoint(path, dtype) if path.is_dir() else _of_gguf(path, dtype)


def open_like(path: Path, hf_class: str, dtype: str = "auto") -> Original:
    """Open a checkpoint as if its config.json named another class."""
    return _of_checkpoint(path, dtype, hf_class)


def _of_checkpoint(path: Path, dtype: str, like: str | None = None) -> Original:
    opened = open_checkpoint(path, dtype, like)
    return Original(
        path,
        opened.metadata,
        opened.metadata,
        opened.tensors,
        str(opened.metadata["puna.source.digest"]),
        opened.origins,
        opened.left_out,
        opened.warnings,
        arch=opened.arch.name,
    )


def _of_gguf(path: Path, dtype: str) -> Original:
    if dtype != "auto":
        raise ConversionError(f"converting {path}: dtype is for checkpoint directories; for GGUF use quantize='F16'")
    gguf = open_gguf(path)
    exact = gguf.metadata.exact()
    if wrong := no_model(path.name, gguf.metadata):
        raise ConversionError(f"converting {wrong}")
    arch = gguf.metadata.get("general.architecture")
    if not isinstance(arch, str):
        raise ConversionError(f"converting {path}: the file has no 'general.architecture'")
    return Original(
        path,
        gguf.metadata,
        exact,
        gguf.tensors,
        digest_of(gguf.tensors, [(key, value.data) for key, value in exact.items()]),
        dict.fromkeys(exact, path.name),
        is_gguf=True,
        alignment=gguf.alignment,
        arch=arch,
    )
