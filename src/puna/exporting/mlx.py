"""A model as mlx-lm reads it: config.json, model.safetensors with codes where MLX multiplies by them, tokenizer.json.

Codes stand for the very values of the file: their scales and biases are float32. Matrices that have no codes become
float16, as on the backend `mlx`; floats stay what they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.backends.affine import TYPES
from puna.dtypes import Stored
from puna.errors import RequestError
from puna.exporting.inverse import Source, config_of, sources_of
from puna.exporting.safetensors import Part, write_safetensors
from puna.exporting.tokenizer import tokenizer_files
from puna.opened import Opened
from puna.runtime import Runtime
from puna.whole import whole_files

GROUP = 32
"""Codes with one scale; MLX has no smaller groups."""


def export_mlx(opened: Opened, folder: Path, on_progress: Callable[[str, int, int], None] | None = None) -> list[Path]:
    """Write a folder that mlx-lm loads.

    ModelError and ConversionError for a model that has no way back to Hugging Face's names, RequestError for one with
    adapters.
    """
    if opened.adapters:
        raise RequestError(
            "exporting: the model has adapters; `puna merge` folds them into a file, which can be exported"
        )
    runtime = Runtime(opened, backend="numpy", context_length=None, kv_type="f16", threads=None)
    arch, hp = runtime.arch, runtime.hparams
    config = config_of(arch, hp, opened.tensors)
    sources = list(sources_of(arch, hp, opened.tensors))
    coded = {_module(s.name): _settings(s.stored) for s in sources if _coded(s.stored)}
    if coded:
        config["quantization"] = {**next(iter(coded.values())), **coded}
    texts = {"config.json": json.dumps(config, indent=2), **tokenizer_files(opened.metadata)}
    parts = [part for source in sources for part in _parts(source)]
    paths = [folder / name for name in (*texts, "model.safetensors")]
    with whole_files(paths) as (*files, weights):
        for file, text in zip(files, texts.values(), strict=True):
            file.write(text.encode())
        write_safetensors(weights, parts, "mlx", on_progress)
    return paths


def _coded(stored: Stored) -> bool:
    coded = TYPES.get(stored.dtype.name)
    return coded is not None and coded.group == GROUP and len(stored.shape) > 1


def _settings(stored: Stored) -> dict[str, int]:
    return {"group_size": GROUP, "bits": TYPES[stored.dtype.name].bits}


def _module(name: str) -> str:
    return name.removesuffix(".weight")


def _parts(source: Source) -> Iterator[Part]:
    """A tensor's own, or its codes, scales and biases."""
    stored = source.stored
    shape = tuple(stored.shape) if source.place is None else tuple(stored.shape[1:])
    if _coded(stored):
        made = _Codes(source, shape)
        bits, module = TYPES[stored.dtype.name].bits, _module(source.name)
        small = (*shape[:-1], shape[-1] // GROUP)
        yield Part(source.name, "U32", (*shape[:-1], shape[-1] * bits // 32), made.codes)
        yield Part(f"{module}.scales", "F32", small, made.scales)
        yield Part(f"{module}.biases", "F32", small, made.biases)
        return
    floats = stored.dtype.name in ("F32", "F16", "BF16") and not source.minus  # whose values change
    kept = stored.dtype.name if floats else None
    dtype = kept or ("F32" if len(shape) < 2 else "F16")
    yield Part(source.name, dtype, shape, lambda: _values(source, shape, dtype))


def _values(source: Source, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    if dtype == "BF16" and not source.minus:
        array: NDArray[Any] = np.asarray(source.stored.raw).view(np.uint16).reshape(source.stored.shape)
    else:
        array = np.asarray(source.stored.numpy())
    array = array if source.place is None else array[source.place]
    if source.minus:
        array = array - np.float32(source.minus)
    array = source.rows(array.reshape(shape))
    return array if dtype == "BF16" else array.astype({"F32": np.float32, "F16": np.float16}[dtype])


class _Codes:
    """The arrays of a matrix of codes, read when the first of them is wanted."""

    def __init__(self, source: Source, shape: tuple[int, ...]) -> None:
        self._source, self._shape = source, shape
        self._made: Mapping[str, NDArray[Any]] = {}

    def _read(self, what: str) -> NDArray[Any]:
        if not self._made:
            stored = self._source.stored
            blocks = np.ascontiguousarray(stored.raw).view(np.uint8).reshape(-1, stored.dtype.block_bytes)
            if self._source.place is not None:
                blocks = np.split(blocks, stored.shape[0])[self._source.place]
            found = TYPES[stored.dtype.name].read(blocks)
            rows = [self._source.rows(each.reshape(*self._shape[:-1], -1)) for each in found]
            self._made = dict(zip(("codes", "scales", "biases"), rows, strict=True))
        return self._made[what]

    def codes(self) -> NDArray[Any]:
        """Codes as MLX packs them: a stream of bits for each row, in words of 32."""
        bits = TYPES[self._source.stored.dtype.name].bits
        codes = self._read("codes")
        each = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
        stream = np.packbits(each.reshape(*codes.shape[:-1], -1), axis=-1, bitorder="little")
        return stream.view("<u4")

    def scales(self) -> NDArray[Any]:
        """float32."""
        return self._read("scales")

    def biases(self) -> NDArray[Any]:
        """float32; the last one that is wanted."""
        found, self._made = self._read("biases"), {}
        return found
