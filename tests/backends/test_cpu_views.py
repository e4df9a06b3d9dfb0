"""Views of storages: what needs no copy, checked against numpy's strides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna import dtypes
from puna.backends.cpu import views
from puna.backends.cpu.views import ONE, Storage, extents, number, times, value, whole
from puna.graph import S, T

SIZES = {"T": 7, "O": 3, "S": 2}


def packed(*shape):
    return whole(Storage(0, lambda sizes: 0), dtypes.F32, extents(shape))


def resolved(view):
    return tuple(value(d, SIZES) for d in view.shape), tuple(4 * value(s, SIZES) for s in view.strides), view.offset


def as_numpy(array, base):
    return array.shape, array.strides, array.__array_interface__["data"][0] - base.__array_interface__["data"][0]


def test_extents_multiply_numbers_and_symbols():
    assert times(number(3), (2, 1, 0, 0)) == (6, 1, 0, 0)
    assert value((6, 1, 0, 1), SIZES) == 6 * 7 * 2
    assert times(number(0), (2, 1, 0, 0)) == views.ZERO


def test_permute_slice_and_expand_are_numpys():
    base = np.zeros((7, 4, 5), np.float32)
    view = packed(T, 4, 5)
    assert resolved(views.permute(view, (2, 0, 1))) == as_numpy(base.transpose(2, 0, 1), base)
    assert resolved(views.slice_axis(view, 1, 1, 3)) == as_numpy(base[:, 1:3], base)
    row = packed(1, 5)
    assert resolved(views.expand(row, extents((T, 5)))) == ((7, 5), (0, 4), 0)
    assert resolved(views.expand(packed(5), extents((T, 4, 5)))) == ((7, 4, 5), (0, 0, 4), 0)


def test_a_slice_whose_offset_would_be_symbolic_is_refused():
    assert views.slice_axis(packed(4, T, 5), 0, 1, 2) is None
    assert views.slice_axis(packed(4, T, 5), 0, 0, 2) is not None


def test_splitting_part_of_a_row_into_heads_needs_no_copy():
    part = views.slice_axis(packed(T, 40), 1, 8, 32)
    heads = views.reshape(part, extents((T, 3, 8)))
    assert resolved(heads) == ((7, 3, 8), (160, 32, 4), 32)


def test_joining_axes_that_lie_apart_needs_a_copy():
    part = views.slice_axis(packed(T, 4, 10), 2, 2, 6)
    assert views.reshape(part, extents((T, 16))) is None
    assert views.reshape(views.permute(packed(T, 4), (1, 0)), (times(number(4), views.extent(T)),)) is None


def test_symbolic_axes_join_in_a_packed_view():
    joined = views.reshape(packed(S, T, 3), ((3, 1, 0, 1),))
    assert resolved(joined) == ((42,), (4,), 0)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_reshaping_a_turned_view_agrees_with_numpy_where_it_finds_strides(shape, data):
    base = np.zeros(shape, np.float32)
    axes = data.draw(st.permutations(range(len(shape))))
    new = data.draw(st.permutations(base.transpose(axes).shape))
    found = views.reshape(views.permute(packed(*shape), axes), extents(new))
    if found is not None:
        expected = np.arange(base.size).reshape(shape).transpose(axes).reshape(new)
        strides = tuple(value(s, SIZES) * 8 for s in found.strides)
        actual = np.lib.stride_tricks.as_strided(np.arange(base.size), new, strides)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (5,), (T, 1)])
def test_packed_views_are_contiguous(shape):
    assert packed(*shape).contiguous


def test_a_view_knows_whether_its_rows_are_whole():
    assert packed(T, 5).has_whole_rows
    assert not views.permute(packed(T, 5), (1, 0)).has_whole_rows
    assert packed(T, 5).strides[-1] == ONE
