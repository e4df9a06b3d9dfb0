"""The model store: names, blobs, manifests, and the places models come from. It does not know what a model computes."""

from puna.store.addition import Addition
from puna.store.manifest import Config, Layer, Manifest
from puna.store.name import ModelName
from puna.store.sources import find_model, pull_pypi
from puna.store.store import Store

__all__ = ["Addition", "Config", "Layer", "Manifest", "ModelName", "Store", "find_model", "pull_pypi"]
