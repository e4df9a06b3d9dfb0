"""Rotary settings: the frequencies that transformers 5.23 computes (written out), both dialects, what is refused."""

from typing import Any

import pytest

from puna.arch import rope
from puna.errors import ModelError
from puna.nn import Rope

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 8192,
}
PLAIN = [1.0, 0.562341325, 0.316227766, 0.177827941, 0.1, 0.0562341325, 0.0316227766, 0.0177827941]


def of(theta: float, **scaling: Any) -> Rope:
    return rope.from_hf({"rope_theta": theta, "rope_scaling": scaling or None}, 32)


@pytest.mark.parametrize(
    ("turned", "scale", "frequencies"),
    [
        (of(1e4), 1.0, PLAIN),
        (of(1e4, rope_type="linear", factor=4.0), 1.0, [f / 4 for f in PLAIN]),
        (
            of(1e4, **YARN),
            1.138629436111989,
            [1.0, 0.42175597, 0.158113882, 0.0444569848, 0.0250000004, 0.0140585322, 0.00790569466, 0.00444569858],
        ),
        (
            of(1e4, **YARN, attention_factor=1.3, beta_fast=16.0, beta_slow=2.0),
            1.3,
            [1.0, 0.351463318, 0.079056941, 0.0444569848, 0.0250000004, 0.0140585322, 0.00790569466, 0.00444569858],
        ),
        (
            of(1e6, **{**YARN, "original_max_position_embeddings": 32768}),
            1.138629436111989,
            [1.0, 0.421696514, 0.177827939, 0.0749894157, 0.0316227786, 0.0133352149, 0.00477990136, 0.00165996165],
        ),
        (
            of(
                1e4,
                **{**YARN, "factor": 40.0, "original_max_position_embeddings": 4096},
                mscale=0.707,
                mscale_all_dim=1.0,
            ),
            0.9210423553163399,
            [1.0, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0272181761, 0.0128290169],
        ),
    ],
)
def test_frequencies_are_those_of_transformers(turned: Rope, scale: float, frequencies: list[float]) -> None:
    assert turned.frequencies()[:8] == pytest.approx(frequencies, rel=1e-6)
    assert turned.scale == pytest.approx(scale, rel=1e-9)


def test_llama3_factors_are_those_of_transformers() -> None:
    slowed = [
        *(1.0, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508, 0.00321144611),
        *(0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05, 6.64786967e-06, 2.92749974e-06),
        *(1.28917316e-06, 5.6770881e-07),
    ]
    config = {"rope_theta": 500000.0, "rope_scaling": LLAMA3}
    factors = rope.llama3_factors(config, 32)
    assert factors is not None
    plain = rope.from_hf(config, 32).frequencies()
    assert [f / by for f, by in zip(plain, factors, strict=True)] == pytest.approx(slowed, rel=1e-6)


def test_other_types_have_no_factors() -> None:
    assert rope.llama3_factors({"rope_theta": 1e4, "rope_scaling": YARN}, 32) is None


@pytest.mark.parametrize("scaling", [{}, {"rope_type": "linear", "factor": 2.0}, YARN])
def test_both_dialects_say_the_same(scaling: dict[str, Any]) -> None:
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5, **scaling}}
    older = {key.replace("rope_type", "type"): value for key, value in scaling.items()}
    published = {"rope_theta": 1e5, "rope_scaling": older or None}
    assert rope.from_hf(new, 64) == rope.from_hf(published, 64)


def test_a_layer_type_has_its_own_settings() -> None:
    config = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }
    }
    assert rope.from_hf(config, 64) == Rope(1e6, 64, "linear", 8.0)
    assert rope.from_hf(config, 64, "sliding_attention") == Rope(1e4, 64)


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"rope_type": "dynamic", "factor": 2.0, "alpha": 1000.0}, "'alpha'"),
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, "'longrope'"),
        ({"type": "su"}, "'su'"),
        ({"rope_type": "linear"}, "'factor'"),
        ({"rope_type": "yarn", "factor": 2.0}, "'original_max_position_embeddings'"),
        ({"rope_type": "llama3", "factor": 2.0}, "'low_freq_factor'"),
        ({**YARN, "attn_factor": 2.0}, "'attn_factor'"),
        ({**YARN, "truncate": "no"}, "'truncate'"),
        ({"rope_type": "default", "mrope_section": [1, 2]}, "'mrope_section'"),
    ],
)
def test_what_is_not_understood_is_named(scaling: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        rope.from_hf({"rope_theta": 1e4, "rope_scaling": scaling}, 64)


def test_dynamic_scaling_changes_nothing_within_the_context() -> None:
    config = {"rope_theta": 1e4, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    assert rope.from_hf(config, 64) == Rope(1e4, 64)


def test_longrope_s_factor_of_the_scores_follows_from_the_stretch() -> None:
    said = {"type": "su", "short_factor": [1, 2], "long_factor": [3, 4]}
    config = {"rope_scaling": said, "original_max_position_embeddings": 4096, "max_position_embeddings": 131072}
    found = rope.longrope(config)
    assert found == ([1.0, 2.0], [3.0, 4.0], pytest.approx((1 + 5 / 12) ** 0.5))  # 32 = 2**5 and 4096 = 2**12
    assert rope.longrope({"rope_scaling": {"type": "linear", "factor": 2.0}}) is None


def test_a_longrope_without_its_divisors_is_an_error() -> None:
    config = {"original_max_position_embeddings": 64, "max_position_embeddings": 128}
    with pytest.raises(ModelError, match="'long_factor'"):
        rope.longrope({**config, "rope_scaling": {"type": "longrope", "short_factor": [1.0]}})
    with pytest.raises(ModelError, match="'short_mscale'"):
        rope.longrope({**config, "rope_scaling": {"type": "longrope", "short_mscale": 1.2}})


def test_a_factor_of_the_scores_is_heeded_without_yarn() -> None:
    assert rope.from_gguf({"rope.scaling.attn_factor": 1.25}.get, 64).scale == 1.25


def test_no_theta_is_an_error() -> None:
    with pytest.raises(ModelError, match="'rope_theta'"):
        rope.from_hf({"hidden_size": 64}, 64)


@pytest.mark.parametrize(
    ("metadata", "turned"),
    [
        ({}, Rope(10000.0, 64)),
        ({"rope.freq_base": 5e5, "rope.dimension_count": 32}, Rope(5e5, 32)),
        ({"rope.scale_linear": 4.0}, Rope(10000.0, 64, "linear", 4.0)),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 1.0}, Rope(10000.0, 64)),
        ({"rope.scaling.factor": 4.0}, Rope(10000.0, 64, "linear", 4.0)),
        ({"rope.scaling.type": "linear"}, Rope(10000.0, 64)),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 0.0}, Rope(10000.0, 64)),  # as llama.cpp saves models
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, Rope(10000.0, 64, "linear", 4.0)),
    ],
)
def test_gguf_spellings_are_read(metadata: dict[str, Any], turned: Rope) -> None:
    assert rope.from_gguf(metadata.get, 64) == turned


def test_attn_factor_multiplies_the_default_as_in_llama_cpp() -> None:
    said = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
    assert rope.from_gguf({**said, "rope.scaling.attn_factor": 2.0}.get, 64).scale == pytest.approx(
        2 * 1.138629436111989
    )
    assert rope.from_gguf({**said, "rope.scaling.yarn_attn_factor": 1.5}.get, 64).scale == 1.5
    assert rope.to_gguf(of(1e4, **YARN, attention_factor=1.3))["rope.scaling.attn_factor"] == pytest.approx(
        1.3 / 1.138629436
    )


@pytest.mark.parametrize(
    "turned", [Rope(1e4, 64), Rope(1e6, 32, "linear", 8.0), of(1e4, **YARN), of(1e4, **YARN, attention_factor=1.3)]
)
def test_gguf_keys_hold_everything(turned: Rope) -> None:
    back = rope.from_gguf(rope.to_gguf(turned).get, 64)
    assert back.frequencies() == turned.frequencies()
    assert back.scale == pytest.approx(turned.scale, rel=1e-12)


def test_an_unknown_scaling_in_a_file_is_named() -> None:
    with pytest.raises(ModelError, match="'longrope'"):
        rope.from_gguf({"rope.scaling.type": "longrope"}.get, 64).frequencies()
