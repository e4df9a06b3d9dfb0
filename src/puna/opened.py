"""From a reference to what is needed to run it: a name in a store, a GGUF file, or a checkpoint directory.

It reads headers and small layers; weights stay where they are until a backend takes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.dtypes import Stored
from puna.errors import InvalidName, ModelNotFound, StoreError

if TYPE_CHECKING:
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
    params: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()
    licenses: tuple[str, ...] = ()
    adapters: tuple[tuple[Path, float], ...] = ()  # LoRA adapters, and the factor of each one's change


def open_model(ref: str | PathLike[str]) -> Opened:
    """What `ref` leads to; ModelNotFound says where it was looked for.

    A name in a store comes before a file or directory of that name; `./name` is always the latter.
    """
    path = Path(fspath(ref)).expanduser()
    if not is_path(ref):
        try:
            return _named(fspath(ref))
        except ModelNotFound:
            if not path.exists():
                raise
    if path.is_dir():
        return _directory(path)
    if path.is_file():
        return _gguf(path)
    raise ModelNotFound(f"opening {fspath(ref)}: there is no such file or directory; `puna list` shows stored models")


def is_path(ref: str | PathLike[str]) -> bool:
    """Whether a reference is written as a path, so that no store is asked."""
    text = fspath(ref)
    return isinstance(ref, PathLike) or text.startswith((".", "/", "~")) or text.endswith(".gguf") or "\\" in text


def _gguf(path: Path, **more: Any) -> Opened:
    from puna.formats.gguf import open_gguf

    gguf = open_gguf(path)
    return Opened(path, gguf.metadata, gguf.tensors, **more)


def _directory(path: Path) -> Opened:
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1 and not (path / "config.json").exists():
        return _gguf(ggufs[0])
    from puna.create.convert import open_checkpoint

    checkpoint = open_checkpoint(path)
    return Opened(path, checkpoint.metadata, checkpoint.tensors)


def _named(text: str) -> Opened:
    from puna.store.name import ModelName
    from puna.store.sources import find_model

    try:
        name = ModelName.parse(text)
    except InvalidName as error:
        raise ModelNotFound(f"opening {text!r}: there is no such file, and it is no model name: {error}") from error
    store, manifest = find_model(name)
    return _gguf(
        store.model_path(name),
        template=_text(store, manifest, "template"),
        system=_text(store, manifest, "system"),
        renderer=store.config(manifest).renderer or None,
        params=store.params(manifest),
        messages=_messages(store, manifest.layer("messages")),
        licenses=tuple(store.read(layer).decode("utf-8", "replace") for layer in manifest.all("license")),
        adapters=tuple((store.blob_path(layer.digest), 1.0) for layer in manifest.all("adapter")),
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
