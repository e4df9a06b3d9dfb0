"""Manifests: which blobs make up a model, as Ollama and OCI registries write them. It does not know where blobs are.

    {"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
     "config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:<hex>","size":n},
     "layers":[{"mediaType":"application/vnd.ollama.image.<kind>","digest":"sha256:<hex>","size":n,"from"?,"name"?}*]}

Kinds: model projector adapter template system params messages license tensor json draft (prompt, embed in old ones).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from puna.errors import ModelNotFound, StoreError
from puna.store.blobs import digest_of, parse_digest

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.ollama.image."
MAX_MANIFEST = 16 << 20
"""The largest manifest read, in bytes; one with a layer per tensor stays far below."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model: `media_type` says what it is, `source` which model it came from, `name` which tensor."""

    media_type: str
    digest: str
    size: int
    source: str = ""
    name: str = ""

    @property
    def kind(self) -> str:
        """The last part of an Ollama media type, such as 'model' or 'template'; '' for other types."""
        return self.media_type.removeprefix(LAYER_TYPE) if self.media_type.startswith(LAYER_TYPE) else ""

    def to_dict(self) -> dict[str, Any]:
        """The layer as it stands in a manifest."""
        entry = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return entry | ({"from": self.source} if self.source else {}) | ({"name": self.name} if self.name else {})


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of one model; `digest` is that of the manifest's own bytes, `modified` when it was written."""

    config: Layer
    layers: tuple[Layer, ...]
    digest: str = ""
    modified: datetime | None = None

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(layer.size for layer in self.parts)

    @property
    def parts(self) -> tuple[Layer, ...]:
        """Every blob it names: the layers and the config."""
        return (*self.layers, self.config)

    def layer(self, kind: str) -> Layer | None:
        """The first layer of a kind ('model', 'template', ...), or None."""
        return next((layer for layer in self.layers if layer.kind == kind), None)

    def all(self, kind: str) -> list[Layer]:
        """Every layer of a kind, in order."""
        return [layer for layer in self.layers if layer.kind == kind]

    def to_json(self) -> bytes:
        """The bytes of the manifest file."""
        layers = [layer.to_dict() for layer in self.layers]
        top = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": self.config.to_dict(), "layers": layers}
        return to_json(top)


@dataclass(slots=True)
class Config:
    """The config blob: what a model is, in the words that `list` and `show` print.

    `extra` holds keys that Puna does not use; they are kept and written again.
    """

    model_format: str = "gguf"
    model_family: str = ""
    model_families: list[str] = field(default_factory=list)
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The bytes of the config blob."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        optional = ("renderer", "parser", "requires")
        kept = {key: value for key, value in plain.items() if value or key not in optional}
        return to_json(kept | {"architecture": "amd64", "os": "linux"} | self.extra)

    @classmethod
    def from_json(cls, data: bytes) -> "Config":
        """Reads a config blob; StoreError where it is no JSON object or a known key has the wrong type."""
        values = parse_json(data, "config of a model")
        known = {f.name: f for f in fields(cls) if f.name != "extra"}
        for key in known.keys() & values.keys():
            if values[key] is None:  # how Go writes an empty list
                values[key] = [] if key == "model_families" else ""
            if not isinstance(values[key], list if key == "model_families" else str):
                raise StoreError(f"config of a model: {key} is {str(values[key])[:80]!r}; the model must be made again")
        extra = {key: value for key, value in values.items() if key not in known and key not in ("architecture", "os")}
        return cls(**{key: values[key] for key in known.keys() & values.keys()}, extra=extra)


def to_json(value: object) -> bytes:
    """Encodes as Go's encoder does (compact, <>& escaped, a newline behind): equal parts get equal digests anywhere."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode(errors="backslashreplace") + b"\n"  # half a surrogate pair stays a JSON escape


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Reads a JSON object from untrusted bytes; StoreError names `what`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what}: not JSON ({str(error)[:120]}); it must be written or pulled again") from error
    if not isinstance(value, dict):
        raise StoreError(f"{what}: a JSON {type(value).__name__}, not an object; it must be written or pulled again")
    return value


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest file; ModelNotFound where it is gone, StoreError where it cannot be understood."""
    what = f"manifest {path}"
    try:
        with path.open("rb") as file:
            data, modified = file.read(MAX_MANIFEST + 1), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError as error:
        raise ModelNotFound(f"{what}: not there; `puna list` shows what is") from error
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}; a readable file works") from error
    when = datetime.fromtimestamp(modified, tz=UTC)
    return replace(parse_manifest(data, what), digest=digest_of(data), modified=when)


def parse_manifest(data: bytes, what: str) -> Manifest:
    """Reads a manifest from untrusted bytes; StoreError names `what` and the field that is wrong."""
    if len(data) > MAX_MANIFEST:
        raise StoreError(f"{what}: {len(data)} bytes; a manifest has at most {MAX_MANIFEST}")
    top = parse_json(data, what)
    if top.get("schemaVersion") != 2:
        raise StoreError(f"{what}: schemaVersion is {str(top.get('schemaVersion'))[:40]}; 2 works")
    layers = top.get("layers") or []
    if not isinstance(layers, list):
        raise StoreError(f"{what}: 'layers' is not a list; it must be written or pulled again")
    config = _layer(top.get("config"), f"{what}: config")
    return Manifest(config, tuple(_layer(entry, f"{what}: layer {i}") for i, entry in enumerate(layers)))


def _layer(entry: object, what: str) -> Layer:
    if not isinstance(entry, dict):
        raise StoreError(f"{what}: not an object; the manifest must be written or pulled again")
    texts = {key: entry.get(key, "") for key in ("mediaType", "from", "name")}
    if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
        raise StoreError(f"{what}: {wrong[0]!r} is not text; the manifest must be written or pulled again")
    size = entry.get("size")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise StoreError(f"{what}: size is {str(size)[:40]}; a number of bytes works")
    try:
        digest = parse_digest(entry.get("digest"))
    except StoreError as error:
        raise StoreError(f"{what}: {error}") from error
    return Layer(texts["mediaType"], digest, size, texts["from"], texts["name"])


def params_json(values: dict[str, Any]) -> bytes:
    """The params layer: options in name order, whole floats without a point, as Go writes them."""
    whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in sorted(values.items())}
    return to_json(whole)


def merge_layers(base: Sequence[Layer], new: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers of `base` without the kinds that `new` brings (licenses add up), then those of `new`."""
    replaced = {layer.kind for layer in new} - {"license"}
    kept = [layer for layer in base if layer.kind not in replaced]
    return (*kept, *(layer for layer in new if layer not in kept))
