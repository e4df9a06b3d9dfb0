"""What files of other converters say in their own way, or leave out; what configs of newer models are refused for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import weights_of, write_checkpoint, write_directory
from puna import arch as archs
from puna.errors import PunaError
from puna.nn import Rope
from puna.opened import open_model

COMMON = {
    **{"block_count": 8, "context_length": 1024, "embedding_length": 64, "feed_forward_length": 128},
    **{"attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5},
}


def read(arch: str, **said: Any) -> Any:
    """The hyperparameters of a file that says so much; `__` stands for a dot."""
    metadata = {**COMMON, **{key.replace("__", "."): value for key, value in said.items()}}
    return archs.find(arch).hparams.from_gguf(arch, {f"{arch}.{key}": value for key, value in metadata.items()})


LLAMA4 = {"rope__freq_base": 5e5, "interleave_moe_layer_step": 1, "expert_used_count": 1}


def test_llama4_as_llama_cpp_writes_it_has_the_numbers_of_the_published_models() -> None:
    hp = read("llama4", **LLAMA4, expert_count=16, expert_feed_forward_length=32)
    assert (hp.chunk, hp.temperature_scale, hp.temperature_length, hp.qk_norm) == (8192, 0.1, 8192, True)
    assert [spec.chunk for spec in archs.find("llama4").caches(hp)] == [8192, 8192, 8192, 0] * 2


def test_the_llama4_with_128_experts_norms_neither_q_nor_k() -> None:
    large = {**LLAMA4, "expert_count": 128, "expert_feed_forward_length": 32}
    assert not read("llama4", **large).qk_norm
    assert read("llama4", **large, use_qk_norm=True).qk_norm  # as Ollama says it
    assert read("llama4", **large, attention__chunk_size=64).chunk == 64


def test_a_llama4_with_a_window_of_0_sees_everything_everywhere() -> None:
    hp = read("llama4", **LLAMA4, expert_count=16, expert_feed_forward_length=32, attention__sliding_window=0)
    assert {spec.chunk for spec in archs.find("llama4").caches(hp)} == {0}


def test_gemma3n_as_ollama_writes_it() -> None:
    hp = read(
        "gemma3n",
        **{"head_dim": 32, "rope__freq_base": 1e6, "rope__freq_base_local": 2e4, "altup__num_inputs": 4},
        **{"altup__active_idx": 0, "attention__sliding_window": 512, "attention__shared_kv_layers": 3},
        **{"activation_sparsity_scale": [1.5] * 8, "embedding_length_per_layer_input": 16},
    )
    assert (hp.head_dim, hp.rope, hp.rope_theta_local, hp.final_softcap) == (32, Rope(1e6, 32), 2e4, 30.0)
    assert hp.memories == (0, 1, 2, 3, 4, 3, 3, 3)
    assert [spec.window for spec in archs.find("gemma3n").caches(hp)] == [512, 512, 512, 512, 0]


def test_exaone4_without_a_pattern_has_a_window_on_three_of_four_blocks() -> None:
    hp = read("exaone4", rope__freq_base=1e6, attention__sliding_window=4096)
    assert [spec.window for spec in archs.find("exaone4").caches(hp)] == [4096, 4096, 4096, 0] * 2


def test_mllama_remembers_nothing_in_blocks_that_look_at_images() -> None:
    hp = read("mllama", rope__freq_base=5e5, attention__cross_attention_layers=[3, 6])
    assert len(archs.find("mllama").caches(hp)) == 6


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("llama4", {"no_rope_layers": [1, 0, 1, 0]}, "each fourth"),
        ("llama4", {"layer_types": ["full_attention"] * 4}, "each fourth"),
        ("llama4", {"moe_layers": [0, 1]}, "moe_layers"),
        ("gemma4", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ("gemma4", {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e6}}}, "yarn"),
        ("gemma3n", {"altup_correct_scale": False}, "altup_correct_scale"),
        ("gemma3n", {"num_kv_shared_layers": 1}, "no keys and values"),
        ("ernie4_5", {"compression_ratio": 2.0}, "compression_ratio"),
        ("hunyuan_dense", {"use_cla": True}, "use_cla"),
        ("mllama", {"cross_attention_layers": []}, "cross_attention_layers"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    case: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(PunaError, match=named):
        open_model(write_checkpoint(tmp_path, case, **changes))


def test_tokens_without_embeddings_of_the_blocks_own_have_those_of_the_first(tmp_path: Path) -> None:
    """As transformers looks them up: gemma3n has 256 tokens for images and sound that its smaller table lacks."""
    table, config, ids = "model.embed_tokens_per_layer.weight", dict(CASES["gemma3n"]), tokens(320)
    whole = weights_of("gemma3n")[table]
    like_first = np.concatenate([whole[:300], np.repeat(whole[:1], 20, 0)])
    results = []
    for name, rows in (("short", whole[:300]), ("padded", like_first), ("other", whole)):
        write_directory(tmp_path / name, config, {**weights_of("gemma3n"), table: rows}, words=False)
        puna.convert(tmp_path / name, tmp_path / f"{name}.gguf")
        results.append(run(open_model(tmp_path / f"{name}.gguf"), "numpy", [(ids, list(ROWS))]))
    assert max(ids) > 300
    assert np.array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2], atol=1e-2)
