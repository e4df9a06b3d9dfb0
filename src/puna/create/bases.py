"""What the lines FROM and DRAFT mean: files, directories, blobs and stored models, as parts of a model.

Headers are read and checked before the store is touched. It does not know templates, options or the manifest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from puna.create.making import ModelPart
from puna.create.modelfile import expand_path
from puna.create.references import whole_of
from puna.create.source import find_component, find_files, find_ggufs, gguf_kind, has_no_weights
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
from puna.formats.gguf_kinds import kind_of
from puna.formats.gguf_shards import first_shard
from puna.store.blobs import parse_digest
from puna.store.describe import describe_gguf
from puna.store.manifest import LAYER_TYPE, Config, Layer
from puna.store.name import ModelName
from puna.store.sources import find_model
from puna.store.store import Store


@dataclass(frozen=True, slots=True)
class Base:
    """What FROM brings: parts, the other layers of a stored model, what they are, and the options that come along."""

    parts: tuple[ModelPart, ...]
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
    if not models and (adapter := next((part.what for part in parts if part.kind == "adapter"), None)):
        raise ModelfileError(
            f"FROM {adapter}: it is a LoRA adapter; FROM with its base model, and ADAPTER {adapter}, work", lines[0]
        )
    if len(models) != 1 or any(base.home for base in bases[1:]):
        said = ", ".join(part.what for part in models[:3]) or ", ".join(texts)
        raise ModelfileError(
            f"FROM {said}: {len(models)} models; a model with all its shards works, and projectors besides it",
            lines[-1],
        )
    return replace(bases[0], parts=tuple(parts))


def find_draft(store: Store, text: str, directory: str | Path, line: int | None) -> ModelPart:
    """What DRAFT means, the same kinds of things as FROM; only the model of what it names counts."""
    models = [part for part in _find("DRAFT", store, text, directory, line).parts if part.kind == "model"]
    if len(models) != 1:
        raise ModelfileError(f"DRAFT {text}: {len(models)} GGUF models are there; one works", line)
    layers = tuple(replace(layer, media_type=f"{LAYER_TYPE}draft") for layer in models[0].layers)
    return replace(models[0], kind="draft", layers=layers)


def _find(command: str, store: Store, text: str, directory: str | Path, line: int | None) -> Base:
    """What the line means; errors say which line it was."""
    if not text:
        raise ModelfileError(f"{command} is empty; a file, a directory or the name of a model works", line)
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
        path = whole_of(path)
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


def gguf_part(path: Path, what: str | None = None) -> ModelPart:
    """A GGUF file or one of several shards, its header checked: a model that runs, a projector, or an adapter."""
    path = first_shard(path)
    what = what or path.name
    with open_gguf(path) as gguf:
        kind = kind_of(gguf.metadata)
        if kind == "projector":
            return ModelPart(kind, what, path, Config("gguf", "clip", ["clip"]))
        if kind == "adapter":
            return ModelPart(kind, what, path)
        config = describe_gguf(path)
        check_runs(gguf)
    return ModelPart(kind, what, path, config)


def check_runs(gguf: GGUF) -> None:
    """Builds the model's graph, which takes headers only; what is wrong with the file is said now, not at its use."""
    from puna import arch as archs
    from puna.arch.binding import graph_of, read_hparams

    arch = archs.find(gguf.metadata["general.architecture"])
    graph_of(arch, read_hparams(arch, gguf.metadata, gguf.tensors), gguf.tensors)


def _from_directory(path: Path) -> Base:
    root = find_component(path)
    ggufs = find_ggufs(root, find_files(root))
    if not ggufs:
        return Base((ModelPart("model", str(root), root),))
    whole = [name for name in ggufs if gguf_kind(root / name) in ("model", "projector")]  # others go with some model
    parts = without_later_shards([gguf_part(root / name) for name in whole])
    models = [part.what for part in parts if part.kind == "model"]
    if len(models) != 1:
        raise ModelfileError(f"it holds {len(models)} GGUF files, {', '.join(models[:3])}; name one of them")
    return Base(tuple(parts))


def without_later_shards(parts: Sequence[ModelPart]) -> list[ModelPart]:
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
    part = ModelPart("model", name.short, home.blob_path(models[0].digest), config, home, models)
    return Base((part,), others, home, config, params)
