"""What an architecture claims: missing, superfluous and unknown things are errors that name them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden.cases import CASES
from golden.checkpoints import config_of
from puna import arch as archs
from puna.arch.binding import bind, check_vocabulary
from puna.dtypes import Stored
from puna.errors import ConversionError, ModelError, UnknownArchitecture
from puna.opened import Opened

Open = Callable[[str], Opened]


def bound(opened: Opened, tensors: dict[str, Stored]) -> Any:
    arch = archs.find(str(opened.metadata["general.architecture"]))
    return bind(arch, arch.hparams.from_gguf(arch.name, opened.metadata), tensors)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("llama2", "token_embd.weight"),
        ("llama2", "blk.1.ffn_up.weight"),
        ("qwen2", "blk.0.attn_k.bias"),
        ("qwen3", "blk.1.attn_q_norm.weight"),
        ("gemma3", "blk.6.post_ffw_norm.weight"),
        ("bert", "blk.0.layer_output_norm.bias"),
        ("bert", "position_embd.weight"),
    ],
)
def test_a_missing_tensor_is_named_in_full(case: str, name: str, opened: Open) -> None:
    tensors = dict(opened(case).tensors)
    del tensors[name]
    with pytest.raises(ModelError, match=f"^{case.rstrip('2') if case == 'llama2' else case}: .* no tensor '{name}'$"):
        bound(opened(case), tensors)


@pytest.mark.parametrize("name", ["blk.2.attn_q.weight", "blk.0.attn_sinks.weight", "extra.weight", "token_embd.bias_"])
def test_a_tensor_that_nothing_claims_is_named(name: str, opened: Open) -> None:
    tensors = {**opened("llama2").tensors, name: opened("llama2").tensors["output_norm.weight"]}
    with pytest.raises(ModelError, match=f"1 tensors that nothing claims: '{name}'"):
        bound(opened("llama2"), tensors)


def test_what_old_files_carry_for_nothing_is_no_error(opened: Open) -> None:
    tensors = {**opened("bert").tensors, "blk.0.attn.rotary_emb.inv_freq": opened("bert").tensors["token_embd.weight"]}
    assert len(bound(opened("bert"), tensors).blk) == 2


def test_the_vision_tower_in_a_gemma_file_is_left_alone(opened: Open) -> None:
    some = opened("gemma3").tensors["output_norm.weight"]
    tensors = {**opened("gemma3").tensors, "v.blk.0.attn_q.weight": some, "mm.input_projection.weight": some}
    assert len(bound(opened("gemma3"), tensors).blk) == 7


def test_optional_weights_may_be_absent_and_biases_present(opened: Open) -> None:
    net = bound(opened("llama3"), dict(opened("llama3").tensors))
    assert net.output is None
    assert net.rope_freqs.weight.shape == (16,)
    assert net.blk[0].attn_q.bias.shape == (128,)
    assert bound(opened("llama2"), dict(opened("llama2").tensors)).blk[0].attn_q.bias is None


@pytest.mark.parametrize(("name", "closest"), [("qwen4", "qwen3"), ("gema3", "gemma3"), ("lama", "llama")])
def test_an_unknown_architecture_names_the_closest(name: str, closest: str) -> None:
    with pytest.raises(UnknownArchitecture, match=f"'{name}' is unknown; closest: {closest}"):
        archs.find(name)


def test_an_unknown_class_names_the_closest() -> None:
    with pytest.raises(UnknownArchitecture, match="'Qwen4ForCausalLM' is unknown; closest: Qwen"):
        archs.find_hf("Qwen4ForCausalLM", {})


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_belongs_to_one_architecture(case: str) -> None:
    every = [archs.find(name) for name in archs.names()]
    assert len([a for a in every if CASES[case]["architectures"][0] in a.hf_classes and a.claims(CASES[case])]) == 1


def test_a_class_belongs_to_two_architectures_only_where_configs_tell_them_apart() -> None:
    classes = Counter(c for name in archs.names() for c in archs.find(name).hf_classes)
    assert [c for c, count in classes.items() if count > 1] == [
        *("NemotronHForCausalLM", "NomicBertModel", "NomicBertForMaskedLM")
    ]


@pytest.mark.parametrize(
    ("case", "key", "value"),
    [
        ("llama2", "hidden_act", "gelu"),
        ("llama2", "quantization_config", {"quant_method": "fp8"}),
        ("mistral", "layer_types", ["full_attention", "chunked_attention"]),
        ("qwen2", "use_sliding_window", True),
        ("qwen3", "layer_types", ["full_attention", "sliding_attention"]),
        ("gemma3", "hidden_activation", "gelu"),
        ("gemma3", "attn_logit_softcapping", 50.0),
        ("gemma3", "use_bidirectional_attention", True),
        ("bert", "hidden_act", "relu"),
        ("bert", "position_embedding_type", "relative_key"),
        ("bert", "is_decoder", True),
    ],
)
def test_a_config_key_that_would_change_numbers_is_named(case: str, key: str, value: Any) -> None:
    config = config_of(case, "published")
    arch = archs.find_hf(config["architectures"][0], config)
    with pytest.raises(ConversionError, match=f"config key '{key}' is"):
        arch.understood({**config, key: value})


def test_gemma_refuses_scaled_positions_in_windows() -> None:
    config = config_of("gemma3", "current")
    config["rope_parameters"]["sliding_attention"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    arch = archs.find("gemma3")
    with pytest.raises(ModelError, match="'linear'"):
        arch.hparams_from_hf(arch.understood(config))


@pytest.mark.parametrize(
    ("case", "hf", "gguf"),
    [
        ("llama", "model.layers.11.mlp.up_proj.weight", "blk.11.ffn_up.weight"),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", None),
        ("gemma3", "language_model.model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"),
        ("gemma3", "model.language_model.embed_tokens.weight", "token_embd.weight"),
        ("gemma3", "model.vision_tower.vision_model.post_layernorm.weight", None),
        ("gemma3", "multi_modal_projector.mm_soft_emb_norm.weight", None),
        ("bert", "bert.encoder.layer.1.output.LayerNorm.bias", "blk.1.layer_output_norm.bias"),
        ("bert", "pooler.dense.bias", "cls.bias"),
    ],
)
def test_names_are_translated(case: str, hf: str, gguf: str | None) -> None:
    assert archs.find(case).gguf_name(hf) == gguf


@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.up_proj.weight_scale", "model.layers.x.mlp.up_proj.weight", "lm_head"]
)
def test_an_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(ConversionError, match=f"'{name}'"):
        archs.find("llama").gguf_name(name)


def test_tensors_of_a_checkpoint_are_read_when_asked_for(opened: Open) -> None:
    norm = opened("gemma3").tensors["output_norm.weight"].numpy()
    assert norm.dtype == np.float32
    assert norm.mean() == pytest.approx(1.0, abs=0.05)  # stored as 1 + w


@pytest.mark.parametrize(
    ("case", "key", "value", "words"),
    [
        ("llama2", "llama.block_count", 1_000_000_000, r"'llama.block_count' is 1000000000, but there are only \d+ "),
        ("gemma3", "gemma3.block_count", 1_000_000_000, r"'gemma3.block_count' is 1000000000, but there are only \d+ "),
        ("llama2", "llama.embedding_length", 64, r"'llama.embedding_length' is 64, but 'token_embd.weight' has"),
        (
            "llama2",
            "llama.attention.head_count",
            8,
            r"attention.head_count' \* .* is 8 \* 32, but 'blk.0.attn_q",
        ),
        ("qwen3", "qwen3.attention.head_count_kv", 1, r"head_count_kv' \* .* is 1 \* \d+, but 'blk.0.attn_k.weight'"),
        ("bert", "bert.feed_forward_length", 7, r"'bert.feed_forward_length' is 7, but 'blk.0.ffn_down.weight'"),
        ("bert", "bert.context_length", 4096, r"'bert.context_length' is 4096, but 'position_embd.weight'"),
        ("mixtral", "llama.expert_count", 8, r"'llama.expert_count' is 8, but 'blk.0.ffn_gate_inp.weight'"),
        ("deepseek_v3", "deepseek2.expert_count", 6, r"expert_count' is 6, but 'blk.1.ffn_gate_inp.weight'"),
    ],
)
def test_a_hyperparameter_that_contradicts_the_tensors_is_named(
    case: str, key: str, value: int, words: str, opened: Open
) -> None:
    whole = opened(case)
    with pytest.raises(ModelError, match=words):
        bound(replace(whole, metadata={**whole.metadata, key: value}), dict(whole.tensors))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tokenizer.ggml.eos_token_id": 320}, "'tokenizer.ggml.eos_token_id' is 320; ids run from 0 to 319"),
        ({"tokenizer.ggml.bos_token_id": -7}, "'tokenizer.ggml.bos_token_id' is -7; ids run from 0 to 319"),
        ({"tokenizer.ggml.tokens": ["a"] * 321}, "'tokenizer.ggml.tokens' has 321 tokens, but .* has 320 rows"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_or_the_embedding_is_an_error(
    changed: dict[str, Any], words: str, opened: Open
) -> None:
    whole = opened("llama2")
    with pytest.raises(ModelError, match=words):
        check_vocabulary({**whole.metadata, **changed}, whole.tensors)


@pytest.mark.parametrize("absent", [-1, 0xFFFFFFFF])
def test_the_id_of_a_token_that_is_not_there_is_no_error(absent: int, opened: Open) -> None:
    metadata = {**opened("llama2").metadata, "tokenizer.ggml.bos_token_id": absent}
    check_vocabulary(metadata, opened("llama2").tensors)
    with pytest.raises(ModelError, match="eos_token_id"):
        check_vocabulary({**metadata, "tokenizer.ggml.eos_token_id": 999}, opened("llama2").tensors)
