"""From a reference to what is needed to run it: a name in a store, a GGUF file, or a checkpoint directory.

It reads headers and small layers; weights stay where they are until a backend takes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from puna.dtypes import Stored
from puna.errors import InvalidName, ModelNotFound
from puna.store.name import ModelName


@dataclass(frozen=True)
class Opened:
    """A model's parts: GGUF metadata and tensors, and what its Modelfile added."""

    source: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    template: str | None = None
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()


def open_model(ref: str | PathLike[str]) -> Opened:
    """What `ref` leads to; ModelNotFound says where it was looked for."""
    path = Path(fspath(ref)).expanduser()
    if path.is_dir():
        from puna.create.convert import open_checkpoint

        checkpoint = open_checkpoint(path)
        return Opened(path, checkpoint.metadata, checkpoint.tensors)
    if path.is_file():
        return _gguf(path)
    if isinstance(ref, PathLike) or fspath(ref).endswith(".gguf") or fspath(ref).startswith((".", "/", "~")):
        raise ModelNotFound(f"opening {ref}: there is no such file or directory")
    return _named(fspath(ref))


def _gguf(path: Path, **more: Any) -> Opened:
    from puna.formats.gguf import open_gguf

    gguf = open_gguf(path)
    return Opened(path, gguf.metadata, gguf.tensors, **more)


def _named(text: str) -> Opened:
    from puna.store.sources import find_model

    try:
        name = ModelName.parse(text)
    except InvalidName as error:
        raise ModelNotFound(f"opening {text!r}: there is no such file, and it is no model name: {error}") from error
    store, manifest = find_model(name)
    text_of = {
        kind: store.read(layer).decode()
        for kind in ("template", "system", "messages")
        if (layer := manifest.layer(kind)) is not None
    }
    return _gguf(
        store.model_path(name),
        template=text_of.get("template"),
        system=text_of.get("system"),
        params=store.params(manifest),
        messages=tuple(json.loads(text_of["messages"])) if "messages" in text_of else (),
    )
