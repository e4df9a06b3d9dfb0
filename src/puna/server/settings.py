"""How a server is set up: PUNA_* variables, and OLLAMA_* ones where those say nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from puna.dtypes import KV_TYPES
from puna.errors import RequestError
from puna.server.address import PORT, parse_host
from puna.server.durations import parse_duration

SCOPES = ("infer", "manage")
"""What a key allows: asking models; or that, and changing the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`keep_alive` and `load_timeout` are seconds; `keys` have a scope each, and are asked for if there are any.

    `parallel` is how many requests one model answers at once, `queue` how many may wait for that; `memory` bounds what
    all models take, in bytes, 0: what the machine has left.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    keep_alive: float = 300.0
    load_timeout: float = 300.0
    queue: int = 512
    parallel: int = 32
    models: int = 3
    memory: int = 0
    context_length: int = 0
    kv_type: str = "f16"
    backend: str = "auto"
    origins: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    body: int = 64 << 20

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from variables; RequestError names one that makes no sense."""
    values: dict[str, object] = {}
    for name, (variables, parse) in VARIABLES.items():
        variable = next((v for v in variables if environ.get(v, "").strip()), None)
        if variable is None:
            continue
        text = environ[variable].strip()
        try:
            parsed = parse(text)
        except (ValueError, RequestError) as error:
            raise RequestError(f"{variable}: {text!r} makes no sense here ({error})") from error
        values |= parsed if isinstance(parsed, dict) and name == "host" else {name: parsed}
    return Settings(**values)  # type: ignore[arg-type]


def parse_keys(text: str) -> dict[str, str]:
    """Keys, with commas between: `KEY`, which may do everything, or `infer:KEY`, `manage:KEY`."""
    keys = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        scope, colon, key = item.partition(":")
        if colon and scope not in SCOPES:
            raise RequestError(f"scope {scope!r} is unknown; known: {', '.join(SCOPES)}")
        keys[key if colon else item] = scope if colon else "manage"
    return keys


def parse_bytes(text: str) -> int:
    """Bytes of a number with K, M, G or T behind it, or nothing."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1].isalpha() else (text, " ")
    return int(float(number) * 1024 ** " KMGT".index(unit))


def parse_kv_type(text: str) -> str:
    """What keys and values are kept as."""
    if text.lower() not in KV_TYPES:
        raise RequestError(f"{', '.join(KV_TYPES)} work")
    return text.lower()


def parse_list(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


VARIABLES: dict[str, tuple[tuple[str, ...], Callable[[str], object]]] = {
    "host": (("PUNA_HOST", "OLLAMA_HOST"), parse_host),
    "keep_alive": (("PUNA_KEEP_ALIVE", "OLLAMA_KEEP_ALIVE"), parse_duration),
    "load_timeout": (("PUNA_LOAD_TIMEOUT", "OLLAMA_LOAD_TIMEOUT"), parse_duration),
    "queue": (("PUNA_MAX_QUEUE", "OLLAMA_MAX_QUEUE"), int),
    "parallel": (("PUNA_NUM_PARALLEL", "OLLAMA_NUM_PARALLEL"), int),
    "models": (("PUNA_MAX_LOADED_MODELS", "OLLAMA_MAX_LOADED_MODELS"), int),
    "memory": (("PUNA_MAX_MEMORY",), parse_bytes),
    "context_length": (("PUNA_CONTEXT_LENGTH", "OLLAMA_CONTEXT_LENGTH"), int),
    "kv_type": (("PUNA_KV_CACHE_TYPE", "OLLAMA_KV_CACHE_TYPE"), parse_kv_type),
    "backend": (("PUNA_BACKEND",), str),
    "origins": (("PUNA_ORIGINS", "OLLAMA_ORIGINS"), parse_list),
    "keys": (("PUNA_API_KEYS",), parse_keys),
    "body": (("PUNA_MAX_BODY",), parse_bytes),
}
"""Where each setting is read from, in order of precedence."""
