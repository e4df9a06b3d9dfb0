"""Architectures: one file each, named as GGUF's `general.architecture`, serving converter and engine alike."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from puna.arch.base import Architecture, Config
from puna.errors import UnknownArchitecture

_PARTS = {"base", "binding", "hparams", "mixture", "naming", "rope", "transform"}


@cache
def _modules() -> frozenset[str]:
    return frozenset(m.name for m in pkgutil.iter_modules(__path__)) - _PARTS


@cache
def names() -> tuple[str, ...]:
    """Every architecture's name, sorted."""
    return tuple(sorted(_open(module).name for module in _modules()))


def find(name: str) -> Architecture:
    """The architecture that GGUF files call `name`; UnknownArchitecture names the closest."""
    module = name.replace("-", "_")
    if module in _modules() and (arch := _open(module)).name == name:
        return arch
    for arch in map(_open, sorted(_modules())):
        if name in arch.gguf_names:
            return arch
    raise _unknown("architecture", name, names())


@cache
def _open(module: str) -> Architecture:
    return Architecture.of(importlib.import_module(f"puna.arch.{module}"))


def find_hf(hf_class: str, config: Config) -> Architecture:
    """The architecture that claims a Hugging Face class, such as 'LlamaForCausalLM', with this config.json."""
    every = [arch for arch in map(find, names()) if hf_class not in arch.hf_classes or arch.claims(config)]
    claimed = {c: arch for arch in every for c in arch.hf_classes}
    if hf_class not in claimed:
        raise _unknown("Hugging Face class", hf_class, claimed)
    return claimed[hf_class]


def _unknown(kind: str, name: str, known: object) -> UnknownArchitecture:
    options = sorted(known)  # type: ignore[call-overload]  # a tuple or a dict of names
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.0)
    hint = f"closest: {close[0]}; " if close else ""
    return UnknownArchitecture(f"{kind} '{name}' is unknown; {hint}'puna show --archs' lists all")
