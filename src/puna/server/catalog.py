"""The models there are, and what each is and can do, read from its headers once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from puna.errors import InvalidName, ModelNotFound, StoreError, TemplateError
from puna.opened import Opened, open_model
from puna.runtime import Runtime
from puna.server.errors import Refused
from puna.server.settings import Settings
from puna.store import Store
from puna.store.manifest import Config, Manifest
from puna.store.name import ModelName
from puna.store.sources import find_model, ollama_stores

if TYPE_CHECKING:
    from puna.template import Template

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


def capabilities(model: Opened) -> list[str]:
    """What a model can do, in Ollama's words: as its renderer or template, its parser and its headers say."""
    arch = model.metadata.get("general.architecture")
    if f"{arch}.pooling_type" in model.metadata:
        return ["embedding"]
    found = ["completion"]
    text = model.template or str(model.metadata.get("tokenizer.chat_template") or "")
    fields = _fields(model, text)
    if "tools" in fields:
        found.append("tools")
    if "suffix" in fields or fills_in(model.metadata):
        found.append("insert")
    if any(kind == "projector" for kind, _ in model.parts):
        found.append("vision")
    if thinks(model, text, fields):
        found.append("thinking")
    return found


def fills_in(metadata: Mapping[str, Any]) -> bool:
    """Whether a vocabulary has tokens for filling in the middle of a text."""
    keys = (("fim_pre", "prefix"), ("fim_suf", "suffix"), ("fim_mid", "middle"))
    return all(any(f"tokenizer.ggml.{key}_token_id" in metadata for key in either) for either in keys)


def _fields(model: Opened, template: str) -> frozenset[str]:
    """The names that a model's renderer reads, or else its template."""
    from puna.template import RENDERERS, named_renderer

    if model.renderer:
        return named_renderer(model.renderer).fields if model.renderer in RENDERERS else frozenset()
    return template_of(template).fields if template else frozenset()


def thinks(model: Opened, template: str, fields: frozenset[str]) -> bool:
    """Whether a model thinks before it answers: by its parser or renderer, or as its template treats thinking."""
    from puna.template.parsing import PARSERS, find_format

    for name in (model.parser, model.renderer):
        if name in PARSERS:
            return find_format(name).thinking is not None
    return bool({"thinking", "think", "enable_thinking", "reasoning_content"} & fields) or "<think>" in template


def template_of(text: str) -> Template:
    """A template that is compiled; Refused where it does not."""
    from puna.template import compile_template

    try:
        return compile_template(text)
    except TemplateError as error:
        raise Refused(400, str(error)) from error


def expected_bytes(model: Opened, settings: Settings, context_length: int) -> int:
    """Memory that a worker with this model takes: weights, cache, and what it needs besides; from headers alone."""
    length = context_length or settings.context_length or None
    runtime = Runtime(model, backend="numpy", context_length=length, kv_type=settings.kv_type, threads=None)
    return runtime.expected_bytes() + BESIDE_WEIGHTS
