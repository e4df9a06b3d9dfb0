"""The models there are, and what each needs, read from its headers once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from puna.errors import InvalidName, ModelNotFound, StoreError
from puna.opened import Opened, open_model
from puna.runtime import Runtime
from puna.server.errors import Refused
from puna.server.settings import Settings
from puna.store import Store
from puna.store.manifest import Config, Manifest
from puna.store.name import ModelName
from puna.store.sources import find_model, ollama_stores

BESIDE_WEIGHTS = 200 << 20
"""Bytes that a worker takes besides the model itself."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model by its name: what its manifest says."""

    name: ModelName
    manifest: Manifest
    config: Config

    @property
    def digest(self) -> str:
        """Of the manifest, without the kind of hash."""
        return self.manifest.digest.removeprefix("sha256:")

    def details(self) -> dict[str, Any]:
        """What `tags`, `ps` and `show` say of it."""
        return {
            "parent_model": "",
            "format": self.config.model_format,
            "family": self.config.model_family,
            "families": self.config.model_families or [self.config.model_family],
            "parameter_size": self.config.model_type,
            "quantization_level": self.config.file_type,
        }


def entry(text: str) -> Entry:
    """The model that a request names; Refused with 404 where there is none."""
    try:
        name = ModelName.parse(text)
        store, manifest = find_model(name)
        return Entry(store.existing_name(name), manifest, store.config(manifest))
    except (ModelNotFound, InvalidName) as error:
        raise Refused(404, f"model '{text}' not found") from error


def entries() -> Iterator[Entry]:
    """Every model, each name once; what cannot be read is left out."""
    seen: set[str] = set()
    for store in (Store(), *ollama_stores()):
        for name in store.models():
            if name.short.lower() in seen:
                continue
            try:
                manifest = store.manifest(name)
                yield Entry(name, manifest, store.config(manifest))
            except StoreError:
                continue
            seen.add(name.short.lower())


@lru_cache(maxsize=64)
def opened(name: str, digest: str) -> Opened:
    """The model's headers; `digest` tells it from what has its name at another time."""
    return open_model(name)


def weights_of(entry: Entry) -> str:
    """What models have in common that one process can answer for; "" of one that needs its own for its adapters."""
    model = opened(str(entry.name), entry.digest)
    if model.adapters and not _choosable(str(entry.name), entry.digest):
        return ""
    files = [layer.digest for layer in entry.manifest.layers if layer.kind in ("model", "projector", "draft")]
    return " ".join([*files, *(f"{name} {model.params.get(name)}" for name in ("num_ctx", "num_thread"))])


@lru_cache(maxsize=64)
def _choosable(name: str, digest: str) -> bool:
    """Whether sequences can have a model's adapters each for themselves: no encoder feeds it, nothing is replaced."""
    from puna.formats.lora import open_lora

    model = opened(name, digest)
    runtime = Runtime(model, backend="numpy", context_length=None, kv_type="f16", threads=None)
    return not (runtime.reads or any(open_lora(path).whole for path, _ in model.adapters))


def expected_bytes(model: Opened, settings: Settings, context_length: int) -> int:
    """Memory that a worker with this model takes: weights, cache, and what it needs besides; from headers alone."""
    length = context_length or settings.context_length or None
    runtime = Runtime(model, backend="numpy", context_length=length, kv_type=settings.kv_type, threads=None)
    return runtime.expected_bytes() + BESIDE_WEIGHTS
