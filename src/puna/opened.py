"""From a reference to what is needed to run it: a name in a store, a GGUF file, or a checkpoint directory.

It reads headers and small layers; weights stay where they are until a backend takes them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.dtypes import Stored
from puna.errors import InvalidName, ModelError, ModelNotFound, StoreError
from puna.store.hub_ref import is_hub
from puna.store.reference import is_path

_log = logging.getLogger("puna")

if TYPE_CHECKING:
    from puna.create.modelfile import Modelfile
    from puna.store.manifest import Layer, Manifest
    from puna.store.store import Store


@dataclass(frozen=True)
class Opened:
    """A model's parts: GGUF metadata and tensors, and what its Modelfile added."""

    source: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    template: str | None = None
    system: str | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()
    licenses: tuple[str, ...] = ()
    adapters: tuple[tuple[Path, float], ...] = ()  # LoRA adapters, and the factor of each one's change
    left_out: tuple[str, ...] = ()  # names of a checkpoint's tensors that none needs
    parts: tuple[tuple[str, Path], ...] = ()  # of a stored model: its files of weights, each with its kind of layer
    draft: Opened | None = None  # a smaller model that was named beside it

    def modelfile(self) -> Modelfile:
        """What makes the same model again: its blobs are the same, and so is its digest."""
        from puna.create.modelfile import Command, Modelfile

        commands: list[Command] = [("from", str(self.source))]
        commands += [({"projector": "from"}.get(kind, kind), str(path)) for kind, path in self.parts]
        named = ("template", "system", "renderer", "parser", "requires")
        commands += [(name, value) for name in named if (value := getattr(self, name))]
        for name, value in self.params.items():
            items = value if isinstance(value, list) else [value]
            commands += [("parameter", (name, str(item))) for item in items]
        commands += [("license", text) for text in self.licenses]
        commands += [("message", (str(m["role"]), str(m["content"]))) for m in self.messages]
        return Modelfile(commands)


def open_model(ref: str | PathLike[str], known: Opened | None = None) -> Opened:
    """What `ref` leads to; ModelNotFound says where it was looked for.

    A name in a store comes before a file or directory of that name; `./name` is always the latter. Of hf.co/user/repo
    what is here already is opened: in the store, or in the hub's cache. Headers that are `known` are not read again,
    where a name in the store leads to the same file of weights.
    """
    if not isinstance(ref, str | PathLike):
        raise ModelError(f"opening {ref!r}: a model is named by text or a path, not by {type(ref).__name__}")
    path = Path(fspath(ref)).expanduser()
    if is_hub(ref):
        return _hub(fspath(ref))
    if not is_path(ref):
        try:
            return _named(fspath(ref), known)
        except ModelNotFound as error:
            if not path.exists():
                raise _not_found(fspath(ref), error) from error
    if path.is_file() and path.suffix != ".gguf":  # a GGUF file is whole, and needs nothing that converts
        from puna.create.references import whole_of

        path = whole_of(path)
    if path.is_dir():
        return _directory(path)
    if path.is_file():
        return _gguf(path)
    raise ModelNotFound(f"opening {fspath(ref)}: there is no such file or directory; `puna list` shows stored models")


def _not_found(text: str, error: ModelNotFound) -> ModelNotFound:
    from puna.create.references import not_found

    return not_found(text, error)


def _hub(text: str) -> Opened:
    from puna.create.hub.repository import parse_ref
    from puna.create.references import find_hub
    from puna.store.store import Store

    here = find_hub(parse_ref(text), Store())
    if here is None:
        raise ModelNotFound(f"opening {text}: it is not here; `puna pull` fetches it")
    return open_model(Path(here)) if is_path(here) else _named(here)


def _gguf(path: Path | list[Path], known: Opened | None = None, **more: Any) -> Opened:
    from puna.formats.gguf import open_gguf

    if known and isinstance(path, Path) and path.name == known.source.name:
        return Opened(known.source, known.metadata, known.tensors, **more)
    gguf = open_gguf(path)
    return Opened(gguf.paths[0], gguf.metadata, gguf.tensors, **more)


def open_draft(opened: Opened) -> Opened | None:
    """The smaller model that a stored one came with, by its Modelfile's DRAFT."""
    return next((_gguf(path) for kind, path in opened.parts if kind == "draft"), None)


def _directory(path: Path) -> Opened:
    from puna.create.source import find_weights

    if (found := find_weights(path)).is_file():
        return _gguf(found)
    from puna.create.convert import open_checkpoint

    checkpoint = open_checkpoint(found)
    for warning in checkpoint.warnings:
        _log.info("%s: %s", found.name, warning)
    return Opened(found, checkpoint.metadata, checkpoint.tensors, left_out=checkpoint.left_out)


def _named(text: str, known: Opened | None = None) -> Opened:
    from puna.store.name import ModelName
    from puna.store.sources import find_model

    try:
        name = ModelName.parse(text)
    except InvalidName as error:
        raise ModelNotFound(f"opening {text!r}: there is no such file, and it is no model name: {error}") from error
    store, manifest = find_model(name)
    config, paths = store.config(manifest), store.model_paths(name)
    kinds = ("projector", "adapter", "draft")
    return _gguf(
        paths[0] if len(paths) == 1 else paths,
        known,
        template=_text(store, manifest, "template"),
        system=_text(store, manifest, "system"),
        renderer=config.renderer or None,
        parser=config.parser or None,
        requires=config.requires or None,
        params=store.params(manifest),
        messages=_messages(store, manifest.layer("messages")),
        licenses=tuple(store.read(layer).decode("utf-8", "replace") for layer in manifest.all("license")),
        adapters=tuple((store.blob_path(layer.digest), 1.0) for layer in manifest.all("adapter")),
        parts=tuple((kind, store.blob_path(layer.digest)) for kind in kinds for layer in manifest.all(kind)),
    )


def _text(store: Store, manifest: Manifest, kind: str) -> str | None:
    layer = manifest.layer(kind)
    return store.read(layer).decode("utf-8", "replace") if layer else None


def _messages(store: Store, layer: Layer | None) -> tuple[Mapping[str, Any], ...]:
    if layer is None:
        return ()
    try:
        messages = json.loads(store.read(layer))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"reading the messages of a model: not JSON ({error}); pull or create it again") from error
    if not isinstance(messages, list):
        raise StoreError("reading the messages of a model: not a list; pull or create it again")
    return tuple(messages)
