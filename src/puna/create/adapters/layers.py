"""ADAPTER lines: adapters that become layers of a model. It does not know how a base or an adapter is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from puna.create.modelfile import Modelfile, expand_path
from puna.errors import ConversionError, FormatError, GraphError, ModelError, ModelfileError
from puna.store.addition import Addition
from puna.store.blobs import Progress, parse_digest
from puna.store.manifest import Layer
from puna.store.store import Store

if TYPE_CHECKING:
    from puna.create.adapters.base import Base


def find_adapters(store: Store, modelfile: Modelfile, directory: str | Path) -> list[tuple[str, Path]]:
    """What each ADAPTER line names: its words and a path, to a GGUF file, a PEFT directory or a blob in the store."""
    found = []
    for text, line in zip(modelfile.texts("adapter"), modelfile.lines_of("adapter"), strict=True):
        path = store.blob_path(parse_digest(text[1:])) if text.startswith("@") else Path(expand_path(text, directory))
        if not path.exists():
            raise ModelfileError(f"ADAPTER {text}: there is no {path}; a GGUF file or a PEFT directory works", line)
        found.append((f"Modelfile line {line}: ADAPTER {text}" if line else f"ADAPTER {text}", path))
    return found


def add_adapters(
    new: Addition, found: Sequence[tuple[str, Path]], layers: Sequence[Layer], progress: Progress
) -> list[Layer]:
    """Stores adapters, converted where they are not GGUF, once they are seen to fit the model in `layers`.

    Errors say which line it was. `layers` may have adapters already, but not the same.
    """
    if not found:
        return []
    base, added = _base(new, layers), list[Layer]()
    for what, path in found:
        try:
            added.append(_add(new, path, base, progress))
        except (FormatError, ModelError, GraphError, ConversionError) as error:
            raise type(error)(f"{what}: {error}") from error
        if added[-1].digest in {layer.digest for layer in (*layers, *added[:-1])}:
            raise ModelfileError(f"{what}: the model has this adapter already; leave the line out")
    return added


def _base(new: Addition, layers: Sequence[Layer]) -> Base:
    from puna.create.adapters.base import open_base

    models = [layer for layer in layers if layer.kind == "model"]
    if len(models) != 1:
        raise ModelfileError(f"ADAPTER: the base has {len(models)} GGUF files of weights; one works")
    return open_base(new.store.blob_path(models[0].digest))


def _add(new: Addition, path: Path, base: Base, progress: Progress) -> Layer:
    from puna.create.adapters.base import check_runs, open_adapter
    from puna.create.adapters.convert import convert_adapter

    check_runs(open_adapter(path, base), base)
    if path.is_file():
        return new.add_file("adapter", path, on_progress=progress)
    progress("converting adapter", 0, 0)
    return new.add_written(
        "adapter", lambda out: convert_adapter(path, out, base=base), what=f"the adapter {path.name}"
    )
