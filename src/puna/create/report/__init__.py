"""What a conversion did or would do, as data: tensors, metadata keys, warnings. It writes no pages.

`to_dict` is the report in JSON's terms; sizes are bytes, times seconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a tensor's values are from its source's: root mean square and largest difference, and cosine.

    `relative` is the root mean square of the differences over that of the values.
    """

    rmse: float
    relative: float
    largest: float
    cosine: float


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What became of one tensor.

    `source` names what it was made of, `sources` all of it. `rule` chose the type, `why` is the transform's reason;
    `sha256` and `drift` are there where they were asked for, the latter where values changed.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    source_dtype: str
    dtype: str
    transform: str
    nbytes: int
    why: str = ""
    rule: str = ""
    sources: tuple[str, ...] = ()
    sha256: str = ""
    drift: Drift | None = None


@dataclass(frozen=True, slots=True)
class KeyReport:
    """A metadata key, what it was taken from, and its value, cut short."""

    key: str
    origin: str
    value: str


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion did, or with `dry_run` would do.

    `nbytes` are those of the tensors, `size` of the files, `memory` about how much it takes at most, `estimate` about
    how many seconds of computing (dry runs only; writing may take longer). `digest` stands for the source, `files` are
    what was written.
    """

    source: str
    out: str
    architecture: str
    parameters: int
    nbytes: int
    seconds: float
    tensors: tuple[TensorReport, ...]
    left_out: tuple[str, ...] = ()  # tensors of the source that the file does not need
    keys: tuple[KeyReport, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    recipe: str = ""
    digest: str = ""
    memory: int = 0
    estimate: float | None = None
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's terms; of a path that is no Unicode the bytes are written out, as in `caf\\udce9`."""
        return {key: _encodable(value) for key, value in asdict(self).items()}


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in value]
    return {key: _encodable(each) for key, each in value.items()} if isinstance(value, dict) else value


def encodable(text: str) -> str:
    """Text whose lone surrogates, which file names may have and UTF-8 has not, are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(value: Any, most: int = 80) -> str:
    """A metadata value for a reader, cut to `most` characters."""
    values = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(values, list | tuple) and len(values) > 8:
        text = f"{len(values)} items: {', '.join(map(str, values[:4]))} ..."
    else:
        text = str(values)
    return text if len(text) <= most else f"{text[: most - 4]} ..."
