"""Hyperparameters from GGUF metadata and config.json, and back."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from golden.cases import CASES
from golden.checkpoints import DIALECTS, config_of
from puna import arch as archs
from puna.errors import ModelError
from puna.nn import Rope
from puna.opened import Opened

LLAMA: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.context_length": 128,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_metadata_holds_everything_that_the_config_said(case: str, dialect: str) -> None:
    config = config_of(case, dialect)
    arch = archs.find_hf(config["architectures"][0], config)
    hp = arch.hparams_from_hf(arch.understood(config))
    assert arch.hparams.from_gguf(arch.name, hp.to_gguf(arch.name)) == hp


def test_kinds_of_values_are_those_of_the_ggml_ecosystem(opened: Callable[[str], Opened]) -> None:
    metadata = opened("gemma3").metadata
    assert {key: metadata[f"gemma3.{key}"] for key in GEMMA} == GEMMA
    assert all(type(metadata[f"gemma3.{key}"]) is type(value) for key, value in GEMMA.items())


GEMMA = {
    "block_count": 7,
    "context_length": 256,
    "embedding_length": 128,
    "feed_forward_length": 224,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 48,
    "attention.value_length": 48,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.sliding_window": 16,
    "attention.sliding_window_pattern": (True, True, False, True, True, False, True),
    "rope.freq_base": 1000000.0,
    "rope.freq_base_swa": 10000.0,
    "rope.scaling.type": "linear",
    "rope.scaling.factor": 8.0,
}


def test_old_files_leave_out_what_follows() -> None:
    hp = archs.find("llama").hparams.from_gguf("llama", LLAMA)
    assert (hp.n_kv_heads, hp.head_dim, hp.vocab_size, hp.rope) == (4, 16, 0, Rope(10000.0, 16))  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", LLAMA)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ModelError, match=f"'{key}'|'{key.removeprefix('llama.')}'"):
        archs.find("llama").hparams.from_gguf("llama", {k: v for k, v in LLAMA.items() if k != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", 0),
        ("llama.attention.head_count", 0),
        ("llama.embedding_length", -4),
        ("llama.feed_forward_length", 1.5),
        ("llama.context_length", True),
        ("llama.attention.layer_norm_rms_epsilon", "small"),
        ("llama.attention.head_count_kv", [4, 2]),
        ("llama.rope.dimension_count", 0),
        ("llama.rope.freq_base", 0.0),
        ("llama.rope.freq_base", -1e4),
        ("llama.rope.freq_base", math.nan),
        ("llama.rope.freq_base", "ten"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=key.rpartition(".")[2]):
        archs.find("llama").hparams.from_gguf("llama", {**LLAMA, key: value})


@pytest.mark.parametrize("dim", [7, 18])
def test_a_rope_dimension_that_is_odd_or_larger_than_a_head_is_an_error(dim: int) -> None:
    with pytest.raises(ModelError, match=f"the rope dimension is {dim}; an even number from 2 to 16 would work"):
        archs.find("llama").hparams.from_gguf("llama", {**LLAMA, "llama.rope.dimension_count": dim})


def test_a_list_of_one_repeated_value_is_that_value() -> None:
    metadata = {**LLAMA, "llama.attention.head_count_kv": [2, 2]}
    assert archs.find("llama").hparams.from_gguf("llama", metadata).n_kv_heads == 2  # type: ignore[attr-defined]


OLLAMA_GEMMA = {
    **{"gemma3.attention.head_count": 8, "gemma3.attention.head_count_kv": 4, "gemma3.attention.key_length": 256},
    **{"gemma3.context_length": 131072, "gemma3.embedding_length": 2560, "gemma3.feed_forward_length": 10240},
    "gemma3.attention.sliding_window": 1024,
}


def test_gemma_as_ollama_writes_it_with_its_vision_tower() -> None:
    """Neither epsilon nor rotary settings: https://github.com/ollama/ollama/blob/main/convert/convert_gemma3.go."""
    hp: Any = archs.find("gemma3").hparams.from_gguf("gemma3", {**OLLAMA_GEMMA, "gemma3.block_count": 34})
    assert hp.norm_eps == 1e-6
    assert (hp.rope, hp.rope_theta_local) == (Rope(1000000.0, 256, "linear", 8.0), 10000.0)
    assert [i for i in range(34) if not hp.slides(i)] == [5, 11, 17, 23, 29]


def test_gemma_of_another_size_is_not_stretched() -> None:
    metadata = {**OLLAMA_GEMMA, "gemma3.block_count": 30, "gemma3.rope.local.freq_base": 20000.0}
    hp: Any = archs.find("gemma3").hparams.from_gguf("gemma3", metadata)
    assert (hp.rope, hp.rope_theta_local) == (Rope(1000000.0, 256), 20000.0)


def test_a_pattern_that_does_not_fit_the_blocks_is_an_error() -> None:
    metadata = {**OLLAMA_GEMMA, "gemma3.block_count": 3, "gemma3.attention.sliding_window_pattern": [True, False]}
    arch = archs.find("gemma3")
    with pytest.raises(ModelError, match="2 blocks, the model 3"):
        arch.caches(arch.hparams.from_gguf("gemma3", metadata))


def test_27b_scales_by_the_width_of_its_heads() -> None:
    metadata = {
        **OLLAMA_GEMMA,
        "gemma3.block_count": 62,
        "gemma3.embedding_length": 5376,
        "gemma3.attention.head_count": 32,
    }
    hp: Any = archs.find("gemma3").hparams.from_gguf("gemma3", metadata)
    assert hp.scale == pytest.approx((5376 / 32) ** -0.5)
