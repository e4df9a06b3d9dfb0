"""Model names: `[scheme://][host/][namespace/]model[:tag]`, as Ollama spells and stores them.

    registry.ollama.ai / library / smollm2 : latest
    host 1..350          namespace 1..80    model 1..80   tag 1..80
    letters digits _-.:  letters digits _-  letters digits _-.  (the first one a letter, a digit or _)

It does not know where models are kept.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from puna.errors import InvalidName

HOST = "registry.ollama.ai"
NAMESPACE = "library"
TAG = "latest"

_PARTS = {  # part: longest, the characters after the first as a class and in words
    "host": (350, r"A-Za-z0-9_\-.:", "letters, digits, '_', '-', '.' and ':'"),
    "namespace": (80, r"A-Za-z0-9_\-", "letters, digits, '_' and '-'"),
    "model": (80, r"A-Za-z0-9_\-.", "letters, digits, '_', '-' and '.'"),
    "tag": (80, r"A-Za-z0-9_\-.", "letters, digits, '_', '-' and '.'"),
}


def _check(part: str, value: str, text: str) -> None:
    longest, allowed, words = _PARTS[part]
    if not value:
        raise InvalidName(
            f"model name {text[:120]!r}: the {part} is empty; names look like 'model', 'namespace/model:tag'"
        )
    if len(value) > longest:
        raise InvalidName(
            f"model name {text[:40]!r}...: the {part} has {len(value)} characters; at most {longest} work"
        )
    if not re.match(r"[A-Za-z0-9_]", value):
        raise InvalidName(
            f"model name {text[:120]!r}: the {part} starts with {value[0]!r}; a letter, a digit or '_' works"
        )
    if bad := re.search(f"[^{allowed}]", value):
        raise InvalidName(f"model name {text[:120]!r}: the {part} holds {bad[0]!r}; {words} work")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A legal, complete model name; building one with an illegal part raises InvalidName."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for part in _PARTS:
            _check(part, getattr(self, part), str(self))

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Reads a name and fills in the default parts; InvalidName says which part is wrong and why."""
        if not isinstance(text, str):
            raise InvalidName(f"model name {text!r}: it is a {type(text).__name__}; text works")
        _, scheme, rest = text.rpartition("://")
        path = rest if scheme else text
        stem, colon, tag = path.rpartition(":")
        if not colon or "/" in tag:  # no colon, or the colon of a host's port
            stem, colon, tag = path, "", TAG
        parts = stem.split("/")
        if len(parts) > 3:
            raise InvalidName(
                f"model name {text[:120]!r}: {len(parts)} parts between slashes; at most host/namespace/model work"
            )
        values = dict(zip(("host", "namespace", "model"), [HOST, NAMESPACE][: 3 - len(parts)] + parts, strict=True))
        for part, value in {**values, "tag": tag}.items():
            _check(part, value, text)
        return cls(**values, tag=tag)

    @classmethod
    def from_path(cls, path: Path) -> "ModelName":
        """Reads a manifest path relative to the manifests folder; InvalidName where it is not one."""
        if len(path.parts) != 4:
            raise InvalidName(f"manifest path {str(path)!r}: {len(path.parts)} parts; host/namespace/model/tag works")
        return cls(*path.parts)

    @property
    def short(self) -> str:
        """The name without the parts that are the defaults; the tag always stays."""
        host, namespace = self.host.lower() != HOST, self.namespace.lower() != NAMESPACE
        prefix = f"{self.host}/{self.namespace}/" if host else f"{self.namespace}/" if namespace else ""
        return f"{prefix}{self.model}:{self.tag}"

    @property
    def path(self) -> Path:
        """The path of the manifest, relative to the manifests folder."""
        return Path(self.host, self.namespace, self.model, self.tag)

    def matches(self, other: "ModelName") -> bool:
        """Whether both name the same model: letter case does not count."""
        return str(self).lower() == str(other).lower()

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
