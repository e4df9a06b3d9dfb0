"""Adapters that become layers of a model, of the lines ADAPTER and FROM. It does not know how one is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from puna.create.making import ModelPart
from puna.create.modelfile import Modelfile, expand_path
from puna.errors import ConversionError, FormatError, GraphError, ModelError, ModelfileError
from puna.store.addition import Addition
from puna.store.blobs import Progress, parse_digest
from puna.store.manifest import Layer
from puna.store.store import Store

if TYPE_CHECKING:
    from puna.create.adapters.base import Base


@dataclass(frozen=True, slots=True)
class Fitting:
    """An adapter that fits its `base`: the words that named it, and its GGUF file or PEFT directory."""

    what: str
    path: Path
    base: Base


def find_adapters(
    store: Store, modelfile: Modelfile, directory: str | Path, parts: Sequence[ModelPart]
) -> tuple[Fitting, ...]:
    """What ADAPTER lines name, and those among the `parts`, seen to fit the model among these by headers alone.

    Errors say which line it was.
    """
    found = [(f"FROM {part.what}", part.source) for part in parts if part.kind == "adapter"]
    for text, line in zip(modelfile.texts("adapter"), modelfile.lines_of("adapter"), strict=True):
        path = store.blob_path(parse_digest(text[1:])) if text.startswith("@") else Path(expand_path(text, directory))
        if not text or not path.exists():
            what = f"there is no {path}" if text else "it is empty"
            raise ModelfileError(f"ADAPTER {text}: {what}; a GGUF file or a PEFT directory works", line)
        found.append((f"Modelfile line {line}: ADAPTER {text}" if line else f"ADAPTER {text}", path))
    if not found:
        return ()
    base = _base([part for part in parts if part.kind == "model"])
    return tuple(_fitting(what, path, base) for what, path in found)


def _base(models: Sequence[ModelPart]) -> Base:
    from puna.create.adapters.base import open_base

    if len(models) != 1 or len(models[0].layers) > 1:
        count = len(models[0].layers) if models else 0
        raise ModelfileError(f"ADAPTER: the base has {count} GGUF files of weights; one works")
    return open_base(models[0].source)


def _fitting(what: str, path: Path, base: Base) -> Fitting:
    from puna.create.adapters.base import check_runs, open_adapter

    with _naming(what):
        check_runs(open_adapter(path, base), base)
    return Fitting(what, path, base)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except (FormatError, ModelError, GraphError, ConversionError) as error:
        raise type(error)(f"{what}: {error}") from error


def add_adapters(new: Addition, found: Sequence[Fitting], layers: Sequence[Layer], progress: Progress) -> list[Layer]:
    """Stores adapters, converted where they are not GGUF.

    `layers` may have adapters already, but not the same: ModelfileError says which line it was.
    """
    added: list[Layer] = []
    for adapter in found:
        with _naming(adapter.what):
            added.append(_add(new, adapter, progress))
        if added[-1].digest in {layer.digest for layer in (*layers, *added[:-1])}:
            raise ModelfileError(f"{adapter.what}: the model has this adapter already; leave the line out")
    return added


def _add(new: Addition, adapter: Fitting, progress: Progress) -> Layer:
    from puna.create.adapters.convert import convert_adapter

    path = adapter.path
    if path.is_file():
        return new.add_file("adapter", path, on_progress=progress)
    progress("converting adapter", 0, 0)
    return new.add_written(
        "adapter", lambda out: convert_adapter(path, out, base=adapter.base), what=f"the adapter {path.name}"
    )
