"""`puna.verify`: whether a model computes what its source does; both opened from references."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from puna.arguments import require_types
from puna.create.verify.report import Verification
from puna.errors import InvalidName, ModelError, ModelNotFound, RequestError, UnknownArchitecture
from puna.formats.gguf_kinds import no_model
from puna.opened import Opened, open_model

if TYPE_CHECKING:
    from puna.create.verify import Limits, Side
    from puna.store.blobs import Progress


def verify(
    model: str | PathLike[str],
    against: str | PathLike[str] | None = None,
    *,
    text: str | None = None,
    backend: str = "auto",
    reference: str | None = None,
    tokens: int = 256,
    limits: Limits | None = None,
    threads: int | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Verification:
    """Hold `model` to `against`, its source, or without one to itself; both are what `puna.load` takes.

    Both run on the first `tokens` of `text`, stage by stage: the source's weights in float32, the model's as they are
    stored. With `reference="transformers"` that library runs the source, which must be a checkpoint directory (the
    model itself, without `against`). Alone, the backend is held to numpy. `limits` replace those that follow from the
    stored types; `force` runs what may not fit into memory. Raises ModelNotFound, FormatError, ModelError,
    ConversionError, BackendError, RequestError; a difference is no error.
    """
    from puna.create.verify import Limits
    from puna.create.verify import verify as verify_sides

    require_types(
        "verify",
        RequestError,
        text=(text, str),
        backend=(backend, str),
        reference=(reference, str),
        tokens=(tokens, int),
        limits=(limits, Limits),
        threads=(threads, int),
    )
    side = open_side(model)
    return verify_sides(
        side,
        None if against is None else open_side(against, side.metadata.get("general.architecture")),
        text=text,
        backend=backend,
        reference=reference,
        tokens=tokens,
        limits=limits,
        threads=threads,
        force=force,
        on_progress=on_progress,
    )


def open_side(ref: str | PathLike[str], like: str | None = None) -> Side:
    """A model as verification takes it; ModelError for one with a LoRA adapter, which is no conversion of anything.

    `like`: the architecture that a checkpoint of an unknown class is read as.
    """
    from puna.create.verify import Side

    opened = _opened(ref, like)
    if opened.adapters:
        raise ModelError(
            f"verifying {fspath(ref)}: it has a LoRA adapter; `puna merge {fspath(ref)} -o merged.gguf` folds it in, "
            "and merged.gguf can be verified"
        )
    if wrong := no_model(opened.source.name, opened.metadata):
        raise ModelError(f"verifying {wrong}")
    return Side(
        label=fspath(ref),
        path=opened.source,
        metadata=opened.metadata,
        tensors=opened.tensors,
        directory=opened.source if opened.source.is_dir() else None,
        left_out=opened.left_out,
        template=opened.template,
        system=opened.system,
        renderer=opened.renderer,
        blobs=_blobs(fspath(ref), opened),
    )


def _opened(ref: str | PathLike[str], like: str | None) -> Opened:
    try:
        return open_model(ref)
    except UnknownArchitecture:
        root = Path(ref)
        if like is None or not root.is_dir():
            raise
    from puna.create.starting import open_alike

    found = open_alike(root, like)
    return Opened(root, found.metadata, found.tensors, left_out=found.left_out)


def _blobs(ref: str, opened: Opened) -> tuple[tuple[str, Path, str], ...]:
    """Every blob of a model in a store with its kind and digest; none for other models."""
    from puna.store.sources import find_model

    if opened.source.parent.name != "blobs":
        return ()
    try:
        store, manifest = find_model(ref)
    except (InvalidName, ModelNotFound):
        return ()
    layers = [("config", manifest.config), *((layer.kind, layer) for layer in manifest.layers)]
    return tuple((kind, store.blob_path(layer.digest), layer.digest) for kind, layer in layers)
