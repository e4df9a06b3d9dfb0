"""The compiled codecs of the IQ and the smallest types: ggml's bytes on every instruction set, and their tables."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from puna.quants import CODECS, grids, native, quantize
from puna.quants.iq_tables import GRIDS, grid_levels
from quants.inputs import arrays, bell, importance

ISAS = [isa for isa in native.ISAS if isa != "numpy"]
NAMES = [name for name in CODECS if name.startswith(("IQ", "TQ", "Q1", "MX", "NV"))]
SEARCHED = [name for name in NAMES if name.startswith("IQ")]
REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())


@pytest.mark.parametrize("case", [case for case in REFERENCE if case.split(", ")[0] in NAMES])
def test_every_instruction_set_writes_the_bytes_of_ggml(case):
    name, kind, *weight = case.split(", ")
    matrix = importance()[weight[0]] if weight else None
    for isa in ISAS:
        made = quantize(arrays()[kind], name, matrix, isa=isa)
        assert hashlib.sha256(made.tobytes()).hexdigest()[:32] == REFERENCE[case], isa


def test_where_anything_was_compiled_every_type_was():
    for name in CODECS:
        assert all(native.decodes(name, isa) for isa in ISAS) or name == "F32"
        assert all(native.encodes(name, isa) for isa in ISAS) or not CODECS[name].encodes


@pytest.mark.parametrize("name", SEARCHED)
def test_a_group_of_zeros_between_others_is_as_numpy_has_it(name):
    array = bell(41, 3, 512).astype(np.float32)
    array[0, 32:64], array[1, 256:], array[2, ::3] = 0, -0.0, 0
    matrix = importance()["even"][:512]
    for isa in ISAS:
        assert quantize(array, name, matrix, isa=isa).tobytes() == quantize(array, name, matrix, isa="numpy").tobytes()


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("factor", [-1, 1e30, 0])
def test_importance_that_makes_no_sense_gives_what_numpy_gives(name, factor):
    array, matrix = bell(43, 2, 256).astype(np.float32), np.float32(factor) * importance()["even"][:256]
    for isa in ISAS:
        assert quantize(array, name, matrix, isa=isa).tobytes() == quantize(array, name, matrix, isa="numpy").tobytes()


def distances(name, levels):
    """Return the square distances of one cell, a list of levels, from all points."""
    return ((grid_levels(name).astype(int) - levels) ** 2).sum(axis=1)


def levels_of(name, code):
    """Return the levels that a code spells."""
    coordinates = GRIDS[name][1]
    bits = {8: 2, 4: 3}[coordinates]
    return [code >> bits * axis & (1 << bits) - 1 for axis in range(coordinates)]


@pytest.mark.parametrize("name", grids.DISTANCES)
def test_a_code_spells_the_levels_of_its_point(name):
    found = grids.tables(name)
    assert [levels_of(name, int(code)) for code in found.codes] == grid_levels(name).tolist()
    assert found.index[found.codes].tolist() == list(range(len(found.codes)))
    assert not found.cells[found.codes].any()


@pytest.mark.parametrize("name", grids.DISTANCES)
def test_the_neighbours_of_a_cell_are_the_points_at_the_smallest_distances(name):
    found = grids.tables(name)
    cells = np.flatnonzero(found.cells)
    assert len(cells) == len(GRIDS[name][0]) ** GRIDS[name][1] - len(found.codes)
    for code in cells[:: len(cells) // 50].tolist():
        first, count = int(found.cells[code] >> 9), int(found.cells[code] & 511)
        near = found.near[first * 16 : first * 16 + -(-count // 16) * 16]
        square = distances(name, levels_of(name, code))
        limit = sorted(set(square.tolist()))[grids.DISTANCES[name] - 1]
        expected = sorted((d, point) for point, d in enumerate(square.tolist()) if d <= limit)
        assert found.index[near[:count]].tolist() == [point for _, point in expected]
        assert len(expected) == count
        assert (near[count:] == near[0]).all()
