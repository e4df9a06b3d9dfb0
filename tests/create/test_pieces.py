"""Pieces of tensors: whatever the size of a band, put together they are the whole tensor, transformed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puna import quants
from puna.arch import base
from puna.arch.transform import Transform
from puna.create import parts as cutting
from puna.create.finite import STEP, first_not_finite
from puna.create.tensors import Converted, pieces
from puna.create.transforms import apply
from puna.dtypes import DTYPES
from puna.formats.mapped import MappedFile, MappedTensor

Array = np.ndarray[Any, Any]
Chain = tuple[Transform, ...]

CHAINS: dict[str, Chain] = {
    "nothing": (),
    "rows": (base.rows(2, 10),),
    "every second row": (base.rows(1, 12, 2),),
    "pairs": (base.permute_rope(2),),
    "groups": (base.regroup(3, 1, 2, 1),),
    "a part of groups": (base.regroup(3, 1, 2, 1), base.rows(3, 9)),
    "transpose": (base.transpose(),),
    "transpose and rows": (base.transpose(), base.rows(0, 32, 2)),
    "plus one": (base.plus_one(),),
}
STORED: dict[str, Callable[[Array], Array]] = {
    "F32": lambda a: a,
    "F16": lambda a: a.astype(np.float16),
    "BF16": lambda a: quants.quantize(a, "BF16"),
    "Q8_0": lambda a: quants.quantize(a, "Q8_0"),
}


def mapped(folder: Path, array: Array, kind: str) -> MappedTensor:
    """A tensor in a file, behind an odd number of other bytes."""
    path = folder / "t"
    raw = STORED[kind](array).tobytes()
    path.write_bytes(b"another" + raw)
    return MappedTensor(MappedFile(path), "t", array.shape, DTYPES[kind], 7, len(raw))


@pytest.mark.parametrize("chain", CHAINS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.sampled_from([(12, 32), (1, 12, 32), (3, 12, 32)]),
    kind=st.sampled_from(list(STORED)),
    out=st.sampled_from(["same", "F32", "F16", "Q8_0"]),
    band=st.integers(1, 500),
    parts=st.integers(1, 3),
)
def test_pieces_are_the_whole(
    chain: str, shape: tuple[int, ...], kind: str, out: str, band: int, parts: int, tmp_path: Path
) -> None:
    transforms, rng = CHAINS[chain], np.random.default_rng(band)
    arrays = [rng.standard_normal(shape, np.float32) for _ in range(parts)]
    folders = [tmp_path / str(i) for i in range(parts)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    sources = tuple(mapped(folder, array, kind) for folder, array in zip(folders, arrays, strict=True))
    columns = apply(transforms, arrays[0]).shape[-1]
    wanted = DTYPES[kind if out == "same" else out]
    if columns % wanted.block_size:
        wanted = DTYPES["F32"]
    names = tuple(f"s{i}" for i in range(parts))
    tensor = Converted("t", sources, names, wanted, transforms, stacked=parts > 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "BAND", band)
        patch.setattr(cutting, "COPIED", 8 * band)
        cut = list(pieces(tensor))
        got = np.concatenate([piece.make() for piece in reversed(cut)][::-1])
        assert [piece.start for piece in cut] == list(np.cumsum([0, *(piece.nbytes for piece in cut)])[:-1])
    values = [apply(transforms, source.numpy().copy()) for source in sources]
    want = np.stack(values) if parts > 1 else values[0]
    assert tensor.shape == want.shape
    expected = quants.quantize(np.ascontiguousarray(want), wanted.name)
    if kind == wanted.name == "Q8_0" and chain != "plus one":  # moved, never decoded
        np.testing.assert_array_equal(quants.dequantize(got, "Q8_0", want.shape), want)
    else:
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, STEP - 1, STEP, 2 * STEP + 4])
def test_the_first_value_that_is_not_finite_is_found(kind: str, bad: float, place: int) -> None:
    values = np.linspace(-60000, 60000, 2 * STEP + 5).astype(np.float64)
    stored = {
        "F64": lambda a: a,
        "F32": lambda a: a.astype(np.float32),
        "F16": lambda a: a.astype(np.float16),
        "BF16": lambda a: (a.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16),
    }[kind]
    assert first_not_finite(stored(values).view(np.uint8), DTYPES[kind]) is None
    values[place] = bad
    values[-1] = np.nan
    assert first_not_finite(stored(values).view(np.uint8), DTYPES[kind]) == place


def test_what_was_replaced_while_it_is_open_is_read_from_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"the old bytes")
    file = MappedFile(path)
    (tmp_path / "new").write_bytes(b"the new bytes")
    (tmp_path / "new").replace(path)
    assert file.read(4, 13).tobytes() == b"old bytes"
    file.close()
    with pytest.raises(ValueError, match="was closed"):
        file.read(0, 1)
