"""What each transform does to values and shapes, against loops and written-out arrays; names, splits and stacks."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from puna.arch import base
from puna.arch.naming import Names, Target, sources, targets
from puna.arch.transform import Transform
from puna.create.names import Parts, named
from puna.create.policy import policy
from puna.create.tensors import Converted
from puna.create.transforms import KINDS, apply, shape_after
from puna.dtypes import BF16, F16, F32, DType
from puna.errors import ConversionError

MATRIX = np.arange(24, dtype=np.float32).reshape(6, 4)


class Held:
    """A tensor in memory."""

    def __init__(self, array: np.ndarray[Any, Any], dtype: DType = F32) -> None:
        self.array, self.dtype, self.shape = array, dtype, array.shape

    @property
    def raw(self) -> np.ndarray[Any, Any]:
        return np.ascontiguousarray(self.array).reshape(-1).view(np.uint8)

    def numpy(self) -> np.ndarray[Any, Any]:
        return self.array


CASES: list[tuple[tuple[Transform, ...], np.ndarray[Any, Any], Any]] = [
    ((base.rows(1, 3),), MATRIX, MATRIX[1:3]),
    ((base.last_rows(2),), MATRIX, MATRIX[4:]),
    ((base.last_rows(1),), MATRIX.reshape(2, 3, 4), MATRIX.reshape(2, 3, 4)[:, 2:]),
    ((base.regroup_after(2, 2, 1, 1),), MATRIX, MATRIX[[0, 1, 2, 4, 3, 5]]),
    ((base.scale(0.5),), np.array([1, 3], np.float32), [0.5, 1.5]),
    ((base.scale_rows((2, 0.5), (4, 2.0)),), MATRIX[:, :1], [[0], [2], [16], [24], [32], [40]]),
    ((base.pad_rows(8),), MATRIX, MATRIX[[0, 1, 2, 3, 4, 5, 0, 0]]),
    ((base.pad_rows(6),), MATRIX, MATRIX),
    ((base.rows(1, 6, 2),), MATRIX, MATRIX[[1, 3, 5]]),
    ((base.rows(2, 4),), MATRIX[:, 0], [8, 12]),
    ((base.rows(0, 1),), MATRIX.reshape(2, 3, 4), [[[0, 1, 2, 3]], [[12, 13, 14, 15]]]),
    ((base.permute_rope(1),), MATRIX, MATRIX[[0, 3, 1, 4, 2, 5]]),
    ((base.permute_rope(1),), MATRIX[:, 0], [0, 12, 4, 16, 8, 20]),
    ((base.regroup(2, 1, 2),), MATRIX, MATRIX[[0, 3, 1, 2, 4, 5]]),
    ((base.regroup(2, 1, 2), base.rows(2, 6)), MATRIX, MATRIX[[1, 2, 4, 5]]),
    ((base.transpose(),), MATRIX, MATRIX.T),
    ((base.transpose(), base.rows(0, 4, 2)), MATRIX, MATRIX.T[[0, 2]]),
    ((base.split_heads(2),), MATRIX, [MATRIX[:3], MATRIX[3:]]),
    ((base.split_heads(2), base.rows(0, 2), base.transpose()), MATRIX, [MATRIX[:2].T, MATRIX[3:5].T]),
    ((base.join_heads(),), MATRIX.reshape(2, 3, 4), MATRIX),
    ((base.squeeze(),), MATRIX[:, None], MATRIX),
    ((base.apart(),), MATRIX, MATRIX[:, None, None]),
    ((base.apart(),), MATRIX[:1, None], MATRIX[:1, None]),
    ((base.apart(),), MATRIX[0], MATRIX[None, :1]),
    ((base.reshape(-1, 1),), MATRIX[:2, 0], [[0], [4]]),
    ((base.plus_one(),), MATRIX, MATRIX + 1),
    ((base.negative_exp(),), np.array([0, 1], np.float32), [-1, -np.float32(2.7182817)]),
    ((base.tanh(),), np.array([0, 0.5], np.float32), [0, np.float32(0.46211717)]),
]


@pytest.mark.parametrize(("transforms", "array", "want"), CASES, ids=[" ".join(map(str, c[0])) for c in CASES])
def test_a_transform_does_what_is_written_here(transforms: tuple[Transform, ...], array: Any, want: Any) -> None:
    want = np.asarray(want, np.float32)
    np.testing.assert_allclose(apply(transforms, array), want, rtol=1e-6)
    assert shape_after(transforms, array.shape, "x") == want.shape
    tensor = Converted("y", (Held(array),), ("x",), F32, transforms)
    assert tensor.shape == want.shape
    np.testing.assert_allclose(tensor.numpy(), want, rtol=1e-6)


def test_every_kind_has_a_case() -> None:
    assert {each.kind for transforms, *_ in CASES for each in transforms} == set(KINDS)


@pytest.mark.parametrize(
    ("transform", "shape", "works"),
    [
        (base.permute_rope(4), (12, 3), "a multiple of 8 rows"),
        (base.rows(4, 8), (6, 3), "at least 8 rows"),
        (base.regroup(2, 3, 1), (9,), "8 rows"),
        (base.transpose(), (9,), "two dimensions or more"),
        (base.split_heads(4), (10, 2), "a multiple of 4 rows"),
        (base.reshape(4, 2), (9,), r"as many elements as \(4, 2\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_named_with_one_that_would(
    transform: Transform, shape: tuple[int, ...], works: str
) -> None:
    with pytest.raises(ConversionError, match=rf"'x'.* shapes do not fit config.json: .*{works} would work"):
        shape_after((transform,), shape, "x")


NAMES = {
    "layers.{}.up": "blk.{}.ffn_up",
    "layers.{}.kv": ("blk.{}.attn_k", "blk.{}.attn_v"),
    "layers.{}.experts.{}.w1": "blk.{}.ffn_gate_exps",
    "layers.{}.experts.{}.w13": ("blk.{}.ffn_gate_exps", "blk.{}.ffn_up_exps"),
    "altup.{}": "altup",
}
WHOLE: Names = {
    "layers.{}.A_log": "blk.{}.ssm_a",
    "layers.{}.x_r": Target("blk.{}.lerp.weight", 0),
    "layers.{}.x_w": Target("blk.{}.lerp.weight", 1),
    "layers.{}.a.0.weight": "blk.{}.a.weight",
    "layers.0.a.0.weight": ("blk.0.a.weight", "blk.0.v.weight"),
}


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("layers.3.up.weight", [("blk.3.ffn_up.weight", None)]),
        ("layers.3.up.bias", [("blk.3.ffn_up.bias", None)]),
        ("layers.3.kv.weight", [("blk.3.attn_k.weight", None), ("blk.3.attn_v.weight", None)]),
        ("layers.3.experts.12.w1.weight", [("blk.3.ffn_gate_exps.weight", 12)]),
        ("layers.0.experts.2.w13.weight", [("blk.0.ffn_gate_exps.weight", 2), ("blk.0.ffn_up_exps.weight", 2)]),
        ("altup.1.weight", [("altup.weight", 1)]),
        ("layers.7.A_log", [("blk.7.ssm_a", None)]),
        ("layers.7.x_w", [("blk.7.lerp.weight", 1)]),
        ("layers.7.a.0.weight", [("blk.7.a.weight", None)]),
        ("layers.0.a.0.weight", [("blk.0.a.weight", None), ("blk.0.v.weight", None)]),
        ("layers.7.A_log.weight", []),
        ("layers.7.up", []),
        ("layers.x.up.weight", []),
    ],
)
def test_names_become_one_several_or_a_place_in_a_stack(name: str, want: list[tuple[str, int | None]]) -> None:
    assert targets(NAMES, WHOLE, name) == tuple(Target(*each) for each in want)


class Arch:
    """As much of an architecture as names need."""

    name = "tiny"

    def targets(self, name: str) -> tuple[Target, ...]:
        return targets(NAMES, WHOLE, name)

    def repeats(self, name: str, others: Collection[str]) -> bool:
        return False


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("blk.7.ffn_up.bias", ["layers.7.up.bias"]),
        ("blk.7.ffn_gate_exps.weight", ["layers.7.experts.*.w1.weight", "layers.7.experts.*.w13.weight"]),
        ("blk.7.lerp.weight", ["layers.7.x_r", "layers.7.x_w"]),
        ("blk.7.v.weight", []),
        ("blk.0.v.weight", ["layers.0.a.0.weight"]),
    ],
)
def test_names_are_found_from_what_they_become(name: str, want: list[str]) -> None:
    assert sources(NAMES, WHOLE, name) == want


def test_a_stack_is_in_the_order_of_its_numbers() -> None:
    names = [f"layers.0.experts.{i}.w1.weight" for i in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)]
    in_order = tuple(f"layers.0.experts.{i}.w1.weight" for i in range(11))
    arch: Any = Arch()
    assert named(arch, {}, names) == {"blk.0.ffn_gate_exps.weight": Parts(in_order, True)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"layers.0.experts.{i}.w1.weight" for i in (0, 1, 4)], "stacked from 3 tensors .* missing: 2, 3;"),
        (["layers.0.up.weight", "layers.00.up.weight"], None),
        (["layers.0.experts.0.w1.weight", "layers.0.experts.00.w1.weight"], "both become 'blk.0.ffn_gate_exps.weight'"),
        (["layers.0.experts.0.w1.weight", "layers.0.experts.0.w13.weight"], "both become 'blk.0.ffn_gate_exps.weight'"),
    ],
)
def test_gaps_and_clashes_are_named(names: list[str], message: str | None) -> None:
    arch: Any = Arch()
    if message is None:
        assert len(named(arch, {}, names)) == 2
        return
    with pytest.raises(ConversionError, match=message):
        named(arch, {}, names)


def test_a_stack_s_tensors_follow_each_other_and_transforms_are_done_to_each() -> None:
    parts = (Held(MATRIX), Held(MATRIX + 100))
    tensor = Converted("y", parts, ("a", "b"), F32, (base.rows(0, 2), base.transpose()), stacked=True)
    assert tensor.shape == (2, 4, 2)
    np.testing.assert_array_equal(tensor.numpy(), np.stack([MATRIX[:2].T, MATRIX[:2].T + 100]))


def test_parts_of_a_stack_that_differ_are_named() -> None:
    tensor = Converted("y", (Held(MATRIX), Held(MATRIX[:2])), ("a", "b"), F32, (), stacked=True)
    with pytest.raises(ConversionError, match=r"'b': its shape is \(2, 4\), but 'a'.* has \(6, 4\)"):
        _ = tensor.shape


@pytest.mark.parametrize(
    ("name", "shape", "source", "wanted", "want", "why"),
    [
        ("blk.0.attn_q.weight", (4, 4), BF16, None, BF16, "own"),
        ("blk.0.attn_q.weight", (4, 4), BF16, F16, F16, "asked"),
        ("blk.0.attn_norm.weight", (4,), BF16, F16, F32, "vectors"),
        ("blk.0.attn_q.bias", (2, 4), BF16, None, F32, "biases"),
        ("blk.0.ffn_gate_inp.weight", (8, 4), BF16, BF16, F32, "routers"),
        ("blk.0.shortconv.conv.weight", (8, 3), F16, None, F32, "convolutions"),
        ("blk.0.ssm_conv1d.weight", (8, 3), F16, None, F32, "convolutions"),
        ("blk.0.time_mix_lerp_fused.weight", (6, 1, 1, 8), BF16, None, F32, "mixes rows"),
        ("blk.0.time_mix_w1.weight", (8, 4), BF16, F16, F32, "forgetting"),
        ("blk.0.time_mix_a1.weight", (8, 4), BF16, F16, F16, "asked"),
        ("blk.0.ssm_a", (8, 1), F16, None, F32, "recurrences"),
        ("token_types.weight", (2, 4), F16, F16, F32, "tables"),
        ("position_embd.weight", (2, 4), F16, F16, F32, "tables"),
    ],
)
def test_the_type_of_a_tensor_follows_the_table(
    name: str, shape: tuple[int, ...], source: DType, wanted: DType | None, want: DType, why: str
) -> None:
    dtype, rule = policy(name, shape, source, wanted)
    assert dtype is want
    assert why in rule
