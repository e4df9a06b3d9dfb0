"""`puna.load`: from a reference to a model that is ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from puna.arguments import require_types
from puna.errors import ModelError
from puna.model import Model
from puna.opened import open_model

AdapterRef = str | PathLike[str] | tuple[str | PathLike[str], float]
"""An adapter to run a model with: its path, or that and the factor of its change."""


def load(
    ref: str | PathLike[str],
    *,
    backend: str = "auto",
    context_length: int | None = None,
    kv_type: str = "f16",
    threads: int | None = None,
    adapters: Sequence[AdapterRef] = (),
    apart: bool = False,
    draft: str | PathLike[str] | None = None,
) -> Model:
    """Open a model: a name in the store, a .gguf file (any shard of several) or a checkpoint directory.

    `backend`: auto, cpu, torch, numpy, with a device or not (torch:cuda:1). `kv_type`: f32, f16, q8_0. `adapters`: LoRA
    adapters (GGUF files or PEFT directories) to run it with besides its own, each a path or a path and a factor; with
    `apart` its own are left to what `like` makes of it. `draft`: a smaller model of the same vocabulary that says what
    may come, in place of a Modelfile's; texts do not depend on it. Weights are taken in when they are first needed.
    Raises ModelNotFound, FormatError, ModelError, BackendError.
    """
    require_types(
        "loading a model",
        ModelError,
        backend=(backend, str),
        context_length=(context_length, int),
        kv_type=(kv_type, str),
        threads=(threads, int),
        adapters=(adapters, Sequence),
    )
    opened = open_model(ref)
    opened = replace(opened, adapters=()) if apart else opened
    named = ((a, 1.0) if isinstance(a, str | PathLike) else a for a in adapters)
    opened = replace(opened, adapters=(*opened.adapters, *((Path(path), float(factor)) for path, factor in named)))
    opened = replace(opened, draft=open_model(draft)) if draft else opened
    model = Model(opened, backend=backend, context_length=context_length, kv_type=kv_type, threads=threads)
    model._runtime.check()
    return model
