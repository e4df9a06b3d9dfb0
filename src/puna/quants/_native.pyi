"""The native codecs (native/quantize/module.cpp), as the Python side sees them."""

import numpy as np
from numpy.typing import NDArray

def isas() -> list[str]: ...
def encoders() -> list[str]: ...
def decoders() -> list[str]: ...
def encode(
    name: str,
    isa: str,
    source: int,
    columns: int,
    values: NDArray[np.uint8],
    importance: NDArray[np.float32] | None,
    out: NDArray[np.uint8],
    /,
) -> tuple[int, int]: ...
def decode(name: str, isa: str, raw: NDArray[np.uint8], out: NDArray[np.float32], /) -> None: ...
def take_points(name: str, points: NDArray[np.int8], /) -> None: ...
def take_lattice(
    name: str,
    codes: NDArray[np.uint16],
    index: NDArray[np.uint16],
    cells: NDArray[np.uint32],
    near: NDArray[np.uint16],
    /,
) -> None: ...
