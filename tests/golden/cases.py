"""The tiny checkpoints whose outputs are on record: a class and a config.json in the dialect that published files use.

`data/<name>.json` holds the same configuration as transformers writes it today, and every tensor's name and shape;
`data/<name>.npy` what transformers computes. `make.py` makes both.
"""

import zlib
from typing import Any

import numpy as np

LENGTH = 80
"""Tokens of the text: more than a block of cache, than a window, than a context before it was stretched."""

ROWS = (0, 1, 15, 17, 40, 63, 64, 79)
"""Positions whose outputs are on record."""


def tokens(vocab_size: int) -> list[int]:
    """The text, ids below `vocab_size`."""
    return [(i * i * 31 + 7 * i + 3) % vocab_size for i in range(LENGTH)]


DECODER: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 224,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 316,
    "eos_token_id": 317,
    "torch_dtype": "float32",
}
QWEN: dict[str, Any] = {**DECODER, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "use_sliding_window": False}
GEMMA: dict[str, Any] = {
    **{k: v for k, v in DECODER.items() if k != "hidden_act"},
    "hidden_activation": "gelu_pytorch_tanh",
    "num_hidden_layers": 7,
    "head_dim": 48,
    "query_pre_attn_scalar": 48,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "sliding_window": 16,
    "sliding_window_pattern": 3,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "pad_token_id": 0,
}
YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
BERT: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 224,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "pad_token_id": 0,
    "torch_dtype": "float32",
}

DEEPSEEK: dict[str, Any] = {
    **DECODER,
    **{"num_hidden_layers": 3, "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_routed_experts": 8},
    **{"num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 96, "kv_lora_rank": 40},
    **{"q_lora_rank": 48, "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_group": 4},
    **{"topk_group": 2, "routed_scaling_factor": 2.5, "attention_bias": False, "moe_layer_freq": 1},
}

CASES: dict[str, dict[str, Any]] = {
    "llama2": {"architectures": ["LlamaForCausalLM"], **DECODER, "num_key_value_heads": 4, "rope_scaling": None},
    "llama3": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "rope_theta": 500000.0, "rope_scaling": LLAMA3},
        **{"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    },
    "llama_linear": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "rope_scaling": {"type": "linear", "factor": 2.0}},
    },
    "llama_yarn": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "rope_scaling": YARN, "max_position_embeddings": 128},
    },
    "llama_yarn_tuned": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "max_position_embeddings": 128},
        "rope_scaling": {**YARN, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0},
    },
    "llama_one_kv": {"architectures": ["LlamaForCausalLM"], **DECODER, "num_key_value_heads": 1},
    "smollm": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "hidden_size": 144, "intermediate_size": 384},
        **{"num_attention_heads": 9, "num_key_value_heads": 3, "rope_theta": 100000.0, "tie_word_embeddings": True},
    },
    "mistral": {
        **{"architectures": ["MistralForCausalLM"], **DECODER, "head_dim": 48, "sliding_window": None},
    },
    "mistral_window": {"architectures": ["MistralForCausalLM"], **DECODER, "sliding_window": 16},
    "mixtral": {
        **{"architectures": ["MixtralForCausalLM"], **DECODER, "num_local_experts": 5, "num_experts_per_tok": 2},
        **{"sliding_window": None, "head_dim": None},
    },
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], **QWEN, "sliding_window": 131072, "max_window_layers": 2},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], **QWEN, "head_dim": 48, "tie_word_embeddings": True},
    "gemma3": {
        **{"architectures": ["Gemma3ForCausalLM"], **GEMMA, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    },
    "gemma3_tuned": {
        **{"architectures": ["Gemma3ForCausalLM"], **GEMMA, "query_pre_attn_scalar": 100},
        **{"sliding_window_pattern": 6, "final_logit_softcapping": 20.0},
    },
    "gemma": {
        **{"architectures": ["GemmaForCausalLM"], **DECODER, "hidden_act": "gelu_pytorch_tanh", "head_dim": 48},
        **{"num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "pad_token_id": 0},
    },
    "gemma2": {
        **{"architectures": ["Gemma2ForCausalLM"], **DECODER, "hidden_act": "gelu_pytorch_tanh"},
        **{"head_dim": 48, "query_pre_attn_scalar": 60, "sliding_window": 16, "num_hidden_layers": 3},
        **{"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "tie_word_embeddings": True},
        **{"pad_token_id": 0},
    },
    "phi3": {
        **{"architectures": ["Phi3ForCausalLM"], **DECODER, "sliding_window": 24, "pad_token_id": 0},
        **{"original_max_position_embeddings": 256, "rope_scaling": None},
    },
    "command_r": {
        **{"architectures": ["CohereForCausalLM"], **DECODER, "logit_scale": 0.25, "tie_word_embeddings": True},
        **{"layer_norm_eps": 1e-5, "use_qk_norm": False, "pad_token_id": 0, "attention_bias": False},
    },
    "command_r_plus": {
        **{"architectures": ["CohereForCausalLM"], **DECODER, "logit_scale": 0.8, "tie_word_embeddings": True},
        **{"layer_norm_eps": 1e-5, "use_qk_norm": True, "pad_token_id": 0, "attention_bias": False},
    },
    "olmo2": {"architectures": ["Olmo2ForCausalLM"], **DECODER, "rope_theta": 500000.0, "pad_token_id": 0},
    "olmo3": {
        **{"architectures": ["Olmo3ForCausalLM"], **DECODER, "rope_theta": 500000.0, "pad_token_id": 0},
        **{"num_hidden_layers": 4, "sliding_window": 16, "max_position_embeddings": 128, "rope_scaling": YARN},
    },
    "deepseek_v3": {"architectures": ["DeepseekV3ForCausalLM"], **DEEPSEEK, "norm_topk_prob": True},
    "deepseek_v3_yarn": {
        **{"architectures": ["DeepseekV3ForCausalLM"], **DEEPSEEK, "norm_topk_prob": True, "q_lora_rank": None},
        **{"max_position_embeddings": 128, "rope_scaling": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}},
    },
    "deepseek_v2": {
        **{"architectures": ["DeepseekV2ForCausalLM"], **DEEPSEEK, "norm_topk_prob": False},
        **{"topk_method": "group_limited_greedy"},
    },
    "lfm2": {
        **{k: v for k, v in DECODER.items() if k not in ("rms_norm_eps", "hidden_act")},
        **{"architectures": ["Lfm2ForCausalLM"], "num_hidden_layers": 4, "norm_eps": 1e-5, "conv_L_cache": 3},
        **{"conv_bias": False, "block_auto_adjust_ff_dim": True, "block_multiple_of": 32, "pad_token_id": 0},
        **{"block_ffn_dim_multiplier": 1.0, "intermediate_size": 300, "tie_word_embeddings": True},
        **{"layer_types": ["conv", "full_attention", "conv", "full_attention"], "rope_theta": 1000000.0},
    },
    "bert": {"architectures": ["BertModel"], **BERT},
}


def values(case: str, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A tensor's weights, float32: they follow from its name, the same on every machine and NumPy.

    Matrices and biases are uniform with a standard deviation of 0.1; norms are that around what does nothing.
    """
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    uniform = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24) - np.float32(0.5)
    out = (uniform * np.float32(0.35)).reshape(shape)
    adds_one = case.startswith("gemma")
    return out + np.float32(1) if is_norm(name) and not adds_one else out


def is_norm(name: str) -> bool:
    """Whether a tensor is what a norm multiplies by."""
    return name.endswith(("norm.weight", "LayerNorm.weight"))
