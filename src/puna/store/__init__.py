"""The model store: names, blobs, manifests, and the places models come from. It does not know what a model computes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.store.addition import Addition
    from puna.store.manifest import Config, Layer, Manifest
    from puna.store.name import ModelName
    from puna.store.sources import find_model, pull_pypi
    from puna.store.store import Store

__all__ = ["Addition", "Config", "Layer", "Manifest", "ModelName", "Store", "find_model", "pull_pypi"]

_HOMES = {
    **{"Addition": "addition", "ModelName": "name", "Store": "store"},
    **dict.fromkeys(("Config", "Layer", "Manifest"), "manifest"),
    **dict.fromkeys(("find_model", "pull_pypi"), "sources"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # running a file does not need them
        return getattr(import_module(f"puna.store.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
