"""What a GGUF file is, in the words of a config blob: family, parameters, file type. It reads headers only."""

from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path

from puna.errors import StoreError
from puna.formats.file_types import FILE_TYPES
from puna.formats.gguf import GGUF, open_gguf
from puna.formats.gguf_kinds import no_model
from puna.store.addition import Addition
from puna.store.blobs import Progress
from puna.store.manifest import Config, Layer


def describe_gguf(path: Path) -> Config:
    """Reads the header of a model's GGUF file, or the first of its shards, into a config.

    FormatError where it is broken or a shard is missing, StoreError where it is no model.
    """
    try:
        gguf = open_gguf(path)
    except OSError as error:
        raise StoreError(f"reading {path}: {error.strerror}; a readable GGUF file works") from error
    with gguf:
        return _config(gguf, path)


def add_model(
    new: Addition,
    what: str,
    write: Callable[[Path], object],
    on_progress: Progress | None = None,
    kind: str = "model",
) -> tuple[Layer, Config]:
    """Stores the GGUF file that `write` makes at the path it is given; one that is broken never gets into the store."""
    layer = new.add_written(kind, write, what=what, check=describe_gguf, on_progress=on_progress)
    return layer, describe_gguf(new.store.blob_path(layer.digest))


def _config(gguf: GGUF, path: Path) -> Config:
    if wrong := no_model(path.name, gguf.metadata):
        raise StoreError(f"reading {wrong}")
    family = gguf.metadata.get("general.architecture")
    if not isinstance(family, str) or not family:
        raise StoreError(f"reading {path.name}: 'general.architecture' is {family!r}; a GGUF file of a model names one")
    if not gguf.tensors:
        raise StoreError(
            f"reading {path.name}: it holds no tensors (a vocabulary only?); a GGUF file with weights works"
        )
    parameters = sum(prod(tensor.shape) for tensor in gguf.tensors.values())
    return Config("gguf", family, [family], readable_count(parameters), _file_type(gguf))


def _file_type(gguf: GGUF) -> str:
    number = gguf.metadata.get("general.file_type")
    if isinstance(number, int) and number in FILE_TYPES:
        return FILE_TYPES[number]
    sizes: Counter[str] = Counter()
    for tensor in gguf.tensors.values():
        sizes[tensor.dtype.name] += tensor.nbytes
    return sizes.most_common(1)[0][0]


def readable_count(number: int) -> str:
    """A number of parameters as Ollama prints it: '134.52M', '8.0B', whole numbers without a point."""
    for unit, scale, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if number >= scale:
            return f"{number / scale:.{0 if number % scale == 0 else digits}f}{unit}"
    return str(number)
