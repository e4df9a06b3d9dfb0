"""A model for other programs: in the forms that they read, one file of this folder each."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from puna.errors import RequestError
from puna.opened import open_model

FORMS = ("onnx", "mlx")
Told = Callable[[str, int, int], None]
"""Called with a tensor's name, what is done and what there is to do."""


def export(
    model: str | PathLike[str],
    folder: str | PathLike[str],
    form: str = "onnx",
    *,
    context_length: int | None = None,
    sequences: int = 1,
    kv_type: str = "f16",
    on_progress: Told | None = None,
) -> list[Path]:
    """Write a model into a folder in another program's form, and give the files; docs/exporting.md tells of them.

    `model` is a name, a GGUF file or a checkpoint directory. Of "onnx": there is memory for `sequences` of
    `context_length` positions (None: as many as when it is loaded), kept as `kv_type`. The files appear when all are
    complete, over those of the same names.
    """
    if form not in FORMS:
        raise RequestError(f"exporting: the form {form!r} is unknown; known: {', '.join(FORMS)}")
    opened, target = open_model(model), Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if form == "mlx":
        from puna.exporting.mlx import export_mlx

        return export_mlx(opened, target, on_progress)
    from puna.exporting.onnx import export_onnx

    return export_onnx(opened, target, context_length, sequences, kv_type, on_progress)
