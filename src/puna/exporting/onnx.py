"""A model as ONNX: model.onnx, which plain onnxruntime runs, and its weights beside it.

The same graph that the backend `onnx` runs, with the same inputs: see docs/exporting.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from puna.backends import definition, module_of
from puna.cache import BLOCK
from puna.dtypes import KV_TYPES, Stored
from puna.engine.limits import Limits, limits
from puna.engine.runner import drawn
from puna.errors import ConversionError, ModelError, RequestError, TokenizerError
from puna.exporting.tokenizer import tokenizer_files
from puna.graph.lower import lower
from puna.graph.tensor import topological
from puna.runtime import Runtime
from puna.whole import whole_files

if TYPE_CHECKING:
    from onnx import ModelProto

    from puna.opened import Opened

MODEL, DATA = "model.onnx", "model.onnx.data"
PAGE = 4096
"""Where tensors begin in the file of weights: at multiples of so many bytes, so that it can be mapped."""


def export_onnx(
    opened: Opened,
    folder: Path,
    context_length: int | None,
    sequences: int,
    kv_type: str,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Write `model.onnx`, its weights, and tokenizer.json where it has that form.

    There is memory for `sequences` of `context_length` positions. BackendError where the package onnx is missing;
    ModelError for a model that has two graphs.
    """
    module_of("onnx")  # which says how to install what it needs
    from puna.backends.onnx import supports
    from puna.backends.onnx.model import written

    if sequences < 1 or kv_type not in KV_TYPES:
        known = f"1 and more sequences, kv_type {', '.join(KV_TYPES)}"
        raise RequestError(f"exporting: {sequences} sequences, kv_type {kv_type!r}; what works: {known}")
    runtime = Runtime(opened, backend="numpy", context_length=context_length, kv_type=kv_type, threads=None)
    if runtime.reads:
        raise ModelError(f"exporting: '{runtime.arch.name}' is an encoder and a decoder; models of one graph work")
    grafted, size = runtime.grafted, _limits(runtime, sequences)
    graph = drawn(runtime.arch, runtime.hparams, grafted.tensors, size, kv_type, grafted.changes)
    (lowered,) = lower([graph.output], supports, "onnx", definition.evaluate)
    made = written([lowered], halves=True)
    weights = {node.name: grafted.weights[node.name] for node in topological([lowered]) if node.op == "weight"}
    for key, value in _facts(runtime, sequences, kv_type).items():
        made.model.metadata_props.add(key=f"puna.{key}", value=str(value))
    texts: dict[str, str] = {}
    with suppress(ConversionError, TokenizerError):  # who runs it may have one from elsewhere
        texts = tokenizer_files(opened.metadata)
    paths = [folder / name for name in (MODEL, DATA, *texts)]
    with whole_files(paths) as (model, data, *files):
        _write(made.model, weights, data, on_progress)
        model.write(made.model.SerializeToString())
        for file, text in zip(files, texts.values(), strict=True):
            file.write(text.encode())
    return paths


def _limits(runtime: Runtime, sequences: int) -> Limits:
    """Memory for so many whole sequences, of every reach: whoever runs the file need not know windows."""
    specs = runtime.arch.caches(runtime.hparams)
    each = sum(spec.sequence_bytes for spec in specs)
    found = limits(runtime.context_length, sequences, encoder=runtime.encoder, sequence_bytes=each)
    slots = found.table * BLOCK * sequences
    return Limits(
        slots=slots,
        states=sequences if each else 0,
        tokens=found.tokens,
        outputs=found.outputs,
        sequences=sequences,
        table=found.table,
    )


def _facts(runtime: Runtime, sequences: int, kv_type: str) -> dict[str, object]:
    """What who runs the file has to know, as its metadata has it."""
    return {
        "architecture": runtime.arch.name,
        "context_length": runtime.context_length,
        "block_size": BLOCK,
        "sequences": sequences,
        "kv_type": kv_type,
        "vocab_size": runtime.vocab_size,
    }


def _write(
    model: ModelProto,
    weights: Mapping[str, Stored],
    data: BinaryIO,
    on_progress: Callable[[str, int, int], None] | None,
) -> None:
    """Write the weights one after another, and say in the model where each lies."""
    from puna.backends.onnx.weights import arrays

    outside = {tensor.name: tensor for tensor in model.graph.initializer if tensor.external_data}
    total, done = sum(stored.dtype.nbytes(stored.shape) for stored in weights.values()), 0
    for name, stored in weights.items():
        for part, array in arrays(name, stored, halves=True):
            data.write(b"\0" * (-data.tell() % PAGE))
            said = {"location": DATA, "offset": data.tell(), "length": array.nbytes}
            del outside[part].external_data[:]
            for key, value in said.items():
                outside[part].external_data.add(key=key, value=str(value))
            data.write(np.ascontiguousarray(array).data)
        done += stored.dtype.nbytes(stored.shape)
        if on_progress is not None:
            on_progress(name, done, total)
