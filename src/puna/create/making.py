"""The parts of a model, weights each, and how they become layers: taken over, merged, or converted.

It does not know Modelfiles, nor where parts were found.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puna.errors import StoreError
from puna.formats.gguf import GGUF, open_gguf
from puna.formats.gguf_writer import reporting, write_gguf
from puna.store.addition import Addition
from puna.store.blobs import Progress, silent
from puna.store.describe import add_model
from puna.store.manifest import Config, Layer
from puna.store.store import Convert, Store

FLOATS = ("F32", "F16", "BF16")
"""File types that quantizing loses nothing of twice."""


@dataclass(frozen=True, slots=True)
class Making:
    """How parts become layers: the converter, what it is to do besides, and whether files may be hard links."""

    convert: Convert
    wanted: Mapping[str, Any] = field(default_factory=dict)  # quantize, recipe, imatrix ...
    link: bool = False
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class ModelPart:
    """Weights that become layers of one `kind`: at `source`, a GGUF file, its first shard or a directory.

    Or `layers` that the store at `home` has. `config` says what they are; of a directory that is known when it is
    converted.
    """

    kind: str
    what: str
    source: Path
    config: Config | None = None
    home: Store | None = None
    layers: tuple[Layer, ...] = ()

    def add(self, new: Addition, making: Making) -> tuple[list[Layer], Config | None]:
        """Stores them as one layer, or takes the layers that are there as they are."""
        if self.source.is_dir() or (making.wanted and self.kind == "model"):
            return self._converted(new, making)
        if self.home is not None:
            return taken(new, self.home, self.layers, making.progress), self.config
        with open_gguf(self.source) as gguf:
            if len(gguf.paths) > 1:
                return self._merged(new, gguf, making.progress), self.config
        return [new.add_file(self.kind, self.source, link=making.link, on_progress=making.progress)], self.config

    def _converted(self, new: Addition, making: Making) -> tuple[list[Layer], Config | None]:
        wanted = dict(making.wanted) if self.kind == "model" else {}
        making.progress(self._work(_aim(wanted)), 0, 0)
        source = shard_names(new.temporary, self.home, self.layers) if len(self.layers) > 1 else self.source
        what = f"the {self.kind} of {Path(self.what).name}"
        layer, config = add_model(
            new, what, lambda out: making.convert(source, out, **wanted), making.progress, self.kind
        )
        return [layer], config

    def _work(self, aim: str) -> str:
        if self.config is None:
            return f"converting {self.kind}" + (f" to {aim}" if aim else "")
        was = self.config.file_type
        if was in FLOATS:
            return f"quantizing {was} model to {aim}"
        return f"requantizing {was} model to {aim}: what {was} lost stays lost, F16 or the original gives more"

    def _merged(self, new: Addition, gguf: GGUF, progress: Progress) -> list[Layer]:
        return [
            new.add_written(
                self.kind, lambda out: merge_shards(gguf, out, progress), what=self.source.name, on_progress=progress
            )
        ]


def _aim(wanted: Mapping[str, Any]) -> str:
    """What weights are to become, in words."""
    recipe = "the types of a recipe" if "recipe" in wanted else ""
    bits = f"{wanted['target_bpw']} bits per weight" if "target_bpw" in wanted else ""
    return str(wanted.get("quantize") or wanted.get("target_size") or bits or recipe)


def merge_shards(gguf: GGUF, out: Path, progress: Progress) -> None:
    """Writes an open checkpoint of several files as one; equal shards give equal bytes."""
    status = f"merging {len(gguf.paths)} shards"
    tensors = reporting(gguf.tensors, lambda name, done, total: progress(status, done, total))
    write_gguf(out, gguf.metadata, tensors, alignment=gguf.alignment)


def taken(new: Addition, home: Store, layers: Sequence[Layer], progress: Progress) -> list[Layer]:
    """Layers of a store, those of another one brought over; blobs are never written in place, so links are safe."""
    if home.root != new.store.root:
        for layer in layers:
            new.add_file(layer.kind, home.blob_path(layer.digest), link=True, digest=layer.digest, on_progress=progress)
    return list(layers)


def shard_names(folder: Path, home: Store | None, layers: Sequence[Layer]) -> Path:
    """The first of links in `folder` by which the shards of a stored model find each other."""
    if home is None:
        raise StoreError("naming shards: they are in no store; a stored model works")
    names = [folder / f"model-{number + 1:05d}-of-{len(layers):05d}.gguf" for number in range(len(layers))]
    for path, layer in zip(names, layers, strict=True):
        os.symlink(home.blob_path(layer.digest), path)
    return names[0]
