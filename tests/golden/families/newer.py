"""Newer dense decoders, and what came of them."""

from typing import Any

from golden.families.shapes import DECODER, LLAMA3

WIDE: dict[str, Any] = {**DECODER, "hidden_size": 256, "intermediate_size": 512, "pad_token_id": 0}

GEMMA4: dict[str, Any] = {
    **{k: v for k, v in WIDE.items() if k not in ("hidden_act", "rope_theta")},
    **{"hidden_activation": "gelu_pytorch_tanh", "head_dim": 48, "global_head_dim": 64, "sliding_window": 16},
    **{"tie_word_embeddings": True, "attention_bias": False, "use_bidirectional_attention": "vision"},
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}

CASES: dict[str, dict[str, Any]] = {
    "glm4": {
        **{"architectures": ["Glm4ForCausalLM"], **WIDE, "head_dim": 32, "partial_rotary_factor": 0.5},
        **{"attention_bias": True},
    },
    "exaone4": {
        **{"architectures": ["Exaone4ForCausalLM"], **WIDE, "sliding_window": None, "sliding_window_pattern": None},
        **{"rope_scaling": LLAMA3, "layer_types": ["full_attention"] * 2, "tie_word_embeddings": True},
    },
    "exaone4_window": {
        **{"architectures": ["Exaone4ForCausalLM"], **WIDE, "sliding_window": 16, "sliding_window_pattern": 3},
        **{"num_hidden_layers": 3},
    },
    "seed_oss": {
        **{"architectures": ["SeedOssForCausalLM"], **WIDE, "head_dim": 48, "attention_bias": True},
        **{"attention_out_bias": False, "mlp_bias": False},
    },
    "ernie4_5": {
        **{"architectures": ["Ernie4_5ForCausalLM"], **WIDE, "head_dim": 48, "rope_theta": 500000.0},
        **{"tie_word_embeddings": True, "use_bias": False},
    },
    "mistral3": {
        **{"architectures": ["Ministral3ForCausalLM"], **WIDE, "head_dim": 48, "max_position_embeddings": 256},
        **{"rope_theta": None, "model_type": "ministral3"},
        "rope_parameters": {
            **{"type": "yarn", "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 8.0, "beta_fast": 32.0},
            **{"original_max_position_embeddings": 32, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0},
            **{"max_position_embeddings": 256, "llama_4_scaling_beta": 0.5},
        },
    },
    "gemma3n": {
        **{"architectures": ["Gemma3nForCausalLM"], **{k: v for k, v in WIDE.items() if k != "hidden_act"}},
        **{
            "hidden_activation": "gelu_pytorch_tanh",
            "num_hidden_layers": 5,
            "head_dim": 48,
            "tie_word_embeddings": True,
        },
        **{"intermediate_size": [512, 256, 512, 256, 512], "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0},
        **{"sliding_window": 16, "num_kv_shared_layers": 2, "laurel_rank": 32, "hidden_size_per_layer_input": 64},
        **{"vocab_size_per_layer_input": 320, "altup_num_inputs": 4, "altup_active_idx": 1},
        **{"altup_correct_scale": True, "altup_coef_clip": 120.0, "final_logit_softcapping": 8.0},
        **{"activation_sparsity_pattern": [0.95, 0.5, 0.0, 0.0, 0.9], "rope_scaling": None},
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "full_attention"],
    },
    "gemma4": {
        **{"architectures": ["Gemma4ForCausalLM"], **GEMMA4, "num_hidden_layers": 5, "num_kv_shared_layers": 2},
        **{"hidden_size_per_layer_input": 64, "vocab_size_per_layer_input": 320, "use_double_wide_mlp": True},
        **{"final_logit_softcapping": 30.0},
        "layer_types": ["sliding_attention", *["sliding_attention", "full_attention"] * 2],
    },
    "gemma4_experts": {
        **{"architectures": ["Gemma4ForCausalLM"], **GEMMA4, "num_hidden_layers": 2, "attention_k_eq_v": True},
        **{"num_global_key_value_heads": 1, "hidden_size_per_layer_input": 0, "enable_moe_block": True},
        **{"num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 128, "final_logit_softcapping": 8.0},
        **{"layer_types": ["sliding_attention", "full_attention"]},
    },
    "llama4": {
        **{
            "architectures": ["Llama4ForCausalLM"],
            **WIDE,
            "num_hidden_layers": 4,
            "head_dim": 48,
            "rope_scaling": LLAMA3,
        },
        **{"intermediate_size_mlp": 512, "intermediate_size": 256, "num_local_experts": 4, "num_experts_per_tok": 2},
        **{"interleave_moe_layer_step": 2, "attention_chunk_size": 24, "floor_scale": 16, "attn_scale": 0.3},
        **{"attn_temperature_tuning": True, "use_qk_norm": True, "attention_bias": False, "no_rope_layers": []},
    },
    "mllama": {
        **{"architectures": ["MllamaForCausalLM"], **WIDE, "num_hidden_layers": 3, "cross_attention_layers": [1]},
        **{"rope_theta": 500000.0, "rope_scaling": LLAMA3},
    },
    "hunyuan_dense": {
        **{"architectures": ["HunYuanDenseV1ForCausalLM"], **WIDE, "head_dim": 48, "max_position_embeddings": 32768},
        **{"rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1}},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("glm4", {"partial_rotary_factor": 1.0}),
    ("exaone4", {"rope_scaling": None}),
    ("exaone4_window", {"sliding_window": 17}),
    ("exaone4_window", {"sliding_window_pattern": "LG"}),
    ("hunyuan_dense", {"rope_scaling": None}),
    ("gemma3n", {"activation_sparsity_pattern": [0.95, 0.5, 0.0, 0.0, 0.0]}),
    ("gemma3n", {"altup_active_idx": 0}),
    ("gemma4", {"sliding_window": 17}),
    ("mllama", {"rope_scaling": None}),
    ("llama4", {"attention_chunk_size": 25}),
    ("llama4", {"attn_scale": 0.1}),
    ("llama4", {"floor_scale": 20}),
    ("llama4", {"use_qk_norm": False}),
    ("llama4", {"attn_temperature_tuning": False}),
    ("llama4", {"num_experts_per_tok": 1}),
    ("gemma4_experts", {"top_k_experts": 1}),
    ("gemma4_experts", {"final_logit_softcapping": None}),
    ("gemma3n", {"final_logit_softcapping": 30.0}),
    ("gemma3n", {"rope_local_base_freq": 20000.0}),
    ("mistral3", {"rope_parameters": {**CASES["mistral3"]["rope_parameters"], "llama_4_scaling_beta": 0.0}}),
    ("mistral3", {"rope_parameters": {**CASES["mistral3"]["rope_parameters"], "mscale_all_dim": 0.5}}),
]

PEERS: list[str] = ["glm4", "exaone4", "seed_oss", "ernie4_5", "hunyuan_dense", "mistral3", "gemma4", "gemma4_experts"]
"""Not gemma3n, of which the peer knows the published numbers of blocks only, nor llama4 with a chunk of its own, nor
mllama, which it does not know."""
