"""What the lines FROM and DRAFT mean: files, directories, blobs and stored models, as parts that become layers.

Headers are read and checked before the store is touched. It does not know templates, options or the manifest.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from puna.create.modelfile import expand_path
from puna.create.source import find_component, find_files, find_ggufs, has_no_weights
from puna.dtypes import F32
from puna.errors import (
    ConversionError,
    FormatError,
    GraphError,
    InvalidName,
    ModelError,
    ModelfileError,
    ModelNotFound,
    StoreError,
)
from puna.formats.gguf import GGUF, open_gguf
from puna.formats.gguf_shards import first_shard
from puna.formats.gguf_writer import write_gguf
from puna.formats.mapped import Bytes, MappedTensor
from puna.store.addition import Addition
from puna.store.blobs import Progress, parse_digest, silent
from puna.store.describe import add_model, describe_gguf
from puna.store.manifest import LAYER_TYPE, Config, Layer
from puna.store.name import ModelName
from puna.store.sources import find_model
from puna.store.store import Store

FLOATS = ("F32", "F16", "BF16")
"""File types that quantizing loses nothing of twice."""


@dataclass(frozen=True, slots=True)
class Making:
    """How parts become layers: the converter, what it is to do besides, and whether files may be hard links."""

    convert: Callable[..., object] | None = None
    wanted: Mapping[str, Any] = field(default_factory=dict)  # quantize, recipe, imatrix ...
    link: bool = False
    progress: Progress = silent

    def function(self) -> Callable[..., object]:
        """The converter: the caller's, or Puna's own."""
        if self.convert is not None:
            return self.convert
        from puna.create.convert import convert

        return convert


@dataclass(frozen=True, slots=True)
class Part:
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
            new, what, lambda out: making.function()(source, out, **wanted), making.progress, self.kind
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
    status, total, done = f"merging {len(gguf.paths)} shards", sum(t.nbytes for t in gguf.tensors.values()), 0

    def bytes_of(tensor: MappedTensor) -> Bytes:
        nonlocal done
        done += tensor.nbytes
        progress(status, done, total)
        return tensor.raw

    progress(status, 0, total)
    tensors = [(name, t.shape, t.dtype, partial(bytes_of, t)) for name, t in gguf.tensors.items()]
    write_gguf(out, gguf.metadata, tensors, alignment=gguf.alignment)


@dataclass(frozen=True, slots=True)
class Base:
    """What FROM brings: parts, the other layers of a stored model, what they are, and the options that come along."""

    parts: tuple[Part, ...]
    layers: tuple[Layer, ...] = ()
    home: Store | None = None
    config: Config | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def find_base(store: Store, texts: Sequence[str], lines: Sequence[int | None], directory: str | Path) -> Base:
    """What all the FROM lines of a Modelfile mean together: one model, perhaps in shards, and perhaps projectors.

    Errors name the line; nothing is written.
    """
    bases = [_find("FROM", store, text, directory, line) for text, line in zip(texts, lines, strict=True)]
    bases.sort(key=lambda base: base.home is None)  # what is stored brings more than its weights
    if len(bases) == 1 and bases[0].home:
        return bases[0]
    parts = without_later_shards([part for base in bases for part in base.parts])
    models = [part for part in parts if part.kind == "model"]
    if len(models) != 1 or any(base.home for base in bases[1:]):
        said = ", ".join(part.what for part in models[:3]) or ", ".join(texts)
        raise ModelfileError(
            f"FROM {said}: {len(models)} models; a model with all its shards works, and projectors besides it",
            lines[-1],
        )
    return replace(bases[0], parts=tuple(parts))


def find_draft(store: Store, text: str, directory: str | Path, line: int | None) -> Part:
    """What DRAFT means, the same kinds of things as FROM; only the model of what it names counts."""
    models = [part for part in _find("DRAFT", store, text, directory, line).parts if part.kind == "model"]
    if len(models) != 1:
        raise ModelfileError(f"DRAFT {text}: {len(models)} GGUF models are there; one works", line)
    layers = tuple(replace(layer, media_type=f"{LAYER_TYPE}draft") for layer in models[0].layers)
    return replace(models[0], kind="draft", layers=layers)


def _find(command: str, store: Store, text: str, directory: str | Path, line: int | None) -> Base:
    """What the line means; errors say which line it was."""
    what = f"{command} {text if len(text) < 200 else f'...{text[-100:]}'}"
    try:
        return find_one(store, text, directory)
    except ModelfileError as error:
        raise ModelfileError(f"{what}: {error}", line) from error
    except (FormatError, ModelError, GraphError, StoreError, ConversionError) as error:
        raise type(error)(f"Modelfile line {line}: {what}: {error}" if line else f"{what}: {error}") from error


def find_one(store: Store, text: str, directory: str | Path) -> Base:
    """What one FROM means: @digest, a file or a directory, or the name of a stored model, in this order.

    A file that is no GGUF, or a directory without weights, does not hide a model of that name.
    """
    if text.startswith("@"):
        return _from_digest(store, text)
    path = Path(expand_path(text, directory))
    if path.exists() and not (has_no_weights(path) and _is_stored(store, text)):
        return _from_directory(path) if path.is_dir() else Base((gguf_part(path),))
    try:
        return _from_name(store, ModelName.parse(text))
    except ModelNotFound as error:
        raise ModelNotFound(f"no such file, and {error}; `puna pull` fetches models") from error
    except InvalidName as error:
        raise ModelfileError(f"there is no file {path}, and it is no model name ({error})") from error


def _is_stored(store: Store, text: str) -> bool:
    try:
        find_model(ModelName.parse(text), store)
    except (InvalidName, StoreError):
        return False
    return True


def _from_digest(store: Store, text: str) -> Base:
    digest = parse_digest(text.removeprefix("@"))
    path = store.blob_path(digest)
    if not path.is_file():
        raise StoreError(f"there is no such blob in {store.root}; a digest of a stored GGUF file works")
    return Base((gguf_part(path, text[:30]),))


def gguf_part(path: Path, what: str | None = None) -> Part:
    """A GGUF file or one of several shards, its header checked: a model that runs, or a projector."""
    path = first_shard(path)
    what = what or path.name
    with open_gguf(path) as gguf:
        kind = gguf_kind(gguf)
        if kind == "projector":
            return Part(kind, what, path, Config("gguf", "clip", ["clip"]))
        config = describe_gguf(path)
        check_runs(gguf)
    return Part(kind, what, path, config)


def gguf_kind(gguf: GGUF) -> str:
    """'projector' for the image and audio part of a model, which is a file of its own, else 'model'."""
    general = [gguf.metadata.get(f"general.{key}") for key in ("type", "architecture")]
    return "projector" if general[0] == "mmproj" or general[1] == "clip" else "model"


def check_runs(gguf: GGUF) -> None:
    """Builds the model's graph, which takes headers only; what is wrong with the file is said now, not at its use."""
    from puna import arch as archs
    from puna import cache
    from puna.arch.binding import bind, check_sizes, check_vocabulary

    arch = archs.find(gguf.metadata["general.architecture"])
    hp = arch.hparams.from_gguf(arch.name, gguf.metadata)
    check_sizes(arch.name, hp, gguf.tensors)
    check_vocabulary(gguf.metadata, gguf.tensors)
    states = cache.states(arch.caches(hp), cache.BLOCK, F32)
    arch.forward(bind(arch, hp, gguf.tensors), hp, cache.batch(1), states)


def _from_directory(path: Path) -> Base:
    root = find_component(path)
    ggufs = find_ggufs(root, find_files(root))
    if not ggufs:
        return Base((Part("model", str(root), root),))
    parts = without_later_shards([gguf_part(root / name) for name in ggufs])
    models = [part.what for part in parts if part.kind == "model"]
    if len(models) != 1:
        raise ModelfileError(f"it holds {len(models)} GGUF files, {', '.join(models[:3])}; name one of them")
    return Base(tuple(parts))


def without_later_shards(parts: Sequence[Part]) -> list[Part]:
    """The parts without those files that the first shard of their set stands for."""
    seen: set[Path] = set()
    kept = []
    for part in parts:
        if part.home is None and part.source.is_file():
            with open_gguf(part.source) as gguf:
                paths = {path.resolve() for path in gguf.paths}
            if paths <= seen:
                continue
            seen |= paths
        kept.append(part)
    return kept


def _from_name(store: Store, name: ModelName) -> Base:
    home, manifest = find_model(name, store)
    config, params = home.config(manifest), home.params(manifest)
    config.extra.pop("source", None)  # where that model was pulled from; this one is made here
    layers = tuple(replace(layer, source="") for layer in manifest.layers)  # equal parts make equal models
    models = tuple(layer for layer in layers if layer.kind == "model")
    others = tuple(layer for layer in layers if layer.kind != "model")
    if not models:
        return Base((), others, home, config, params)
    part = Part("model", name.short, home.blob_path(models[0].digest), config, home, models)
    return Base((part,), others, home, config, params)


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
