"""Mixtures of experts."""

from typing import Any

from golden.families.shapes import DECODER, YARN

DEEPSEEK: dict[str, Any] = {
    **DECODER,
    **{"num_hidden_layers": 3, "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_routed_experts": 8},
    **{"num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 96, "kv_lora_rank": 40},
    **{"q_lora_rank": 48, "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_group": 4},
    **{"topk_group": 2, "routed_scaling_factor": 2.5, "attention_bias": False, "moe_layer_freq": 1},
}

SMALL: dict[str, Any] = {
    **DECODER,
    **{"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_experts": 6},
    **{"num_experts_per_tok": 3, "moe_intermediate_size": 256},
}

CASES: dict[str, dict[str, Any]] = {
    "mixtral": {
        **{"architectures": ["MixtralForCausalLM"], **DECODER, "num_local_experts": 5, "num_experts_per_tok": 2},
        **{"sliding_window": None, "head_dim": None},
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
    "qwen3moe": {
        **{"architectures": ["Qwen3MoeForCausalLM"], **SMALL, "head_dim": 32, "norm_topk_prob": True},
        **{"rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2},
        **{"attention_bias": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
    },
    "qwen2moe": {
        **{"architectures": ["Qwen2MoeForCausalLM"], **SMALL, "norm_topk_prob": False, "decoder_sparse_step": 1},
        **{"rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 2},
        **{"shared_expert_intermediate_size": 256, "mlp_only_layers": []},
    },
    "olmoe": {
        **{"architectures": ["OlmoeForCausalLM"], **SMALL, "norm_topk_prob": False, "clip_qkv": None},
        **{"attention_bias": False, "num_key_value_heads": 4},
    },
    "granitemoe": {
        **{"architectures": ["GraniteMoeForCausalLM"], **SMALL, "num_local_experts": 6, "tie_word_embeddings": True},
        **{"embedding_multiplier": 6.0, "residual_multiplier": 0.4, "attention_multiplier": 0.1, "logits_scaling": 3.0},
    },
    "granitemoeshared": {
        **{"architectures": ["GraniteMoeSharedForCausalLM"], **DECODER, "num_local_experts": 5},
        **{"num_experts_per_tok": 2, "shared_intermediate_size": 96},
        **{"embedding_multiplier": 6.0, "residual_multiplier": 0.4, "attention_multiplier": 0.1, "logits_scaling": 3.0},
    },
    "ernie4_5_moe": {
        **{"architectures": ["Ernie4_5_MoeForCausalLM"], **DECODER, "hidden_size": 256, "num_hidden_layers": 2},
        **{"rope_theta": 500000.0, "use_bias": False, "moe_num_experts": 6, "moe_k": 3, "moe_intermediate_size": 256},
        **{"moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_interval": 1, "pad_token_id": 0},
        **{"tie_word_embeddings": True, "intermediate_size": 1024},
    },
    "glm4moe": {
        **{"architectures": ["Glm4MoeForCausalLM"], **DECODER, "hidden_size": 256, "intermediate_size": 256},
        **{"head_dim": 48, "partial_rotary_factor": 0.5, "attention_bias": True, "use_qk_norm": True, "n_group": 1},
        **{"topk_group": 1, "n_routed_experts": 6, "num_experts_per_tok": 3, "n_shared_experts": 1},
        **{"moe_intermediate_size": 256, "norm_topk_prob": True, "routed_scaling_factor": 1.5},
        **{"first_k_dense_replace": 1, "num_nextn_predict_layers": 0},
    },
    "dots1": {
        **{"architectures": ["Dots1ForCausalLM"], **DECODER, "hidden_size": 256, "intermediate_size": 256},
        **{"n_routed_experts": 6, "num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 256},
        **{"norm_topk_prob": True, "routed_scaling_factor": 2.5, "first_k_dense_replace": 1, "n_group": 1},
        **{"topk_group": 1, "sliding_window": None, "max_window_layers": 2, "num_key_value_heads": 4},
    },
    "glm4_moe_lite": {
        **{"architectures": ["Glm4MoeLiteForCausalLM"], **DEEPSEEK, "norm_topk_prob": True, "num_hidden_layers": 2},
        **{"n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "routed_scaling_factor": 1.8},
        **{"n_shared_experts": 1, "num_nextn_predict_layers": 0, "rms_norm_eps": 1e-5},
    },
    "lfm2moe": {
        **{k: v for k, v in SMALL.items() if k not in ("rms_norm_eps", "hidden_act")},
        **{"architectures": ["Lfm2MoeForCausalLM"], "num_hidden_layers": 3, "norm_eps": 1e-5, "conv_L_cache": 3},
        **{"layer_types": ["conv", "full_attention", "conv"], "conv_bias": False, "num_dense_layers": 1},
        **{"num_experts": 4, "num_experts_per_tok": 3},
        **{"norm_topk_prob": True, "routed_scaling_factor": 1.0, "use_expert_bias": True, "pad_token_id": 0},
        **{"rope_theta": 1000000.0, "tie_word_embeddings": True},
    },
    "phimoe": {
        **{"architectures": ["PhimoeForCausalLM"], **SMALL, "num_local_experts": 4, "num_experts_per_tok": 2},
        **{"intermediate_size": 256, "num_hidden_layers": 2},
        **{"attention_bias": True, "lm_head_bias": True, "sliding_window": 24, "pad_token_id": 0},
        **{"router_jitter_noise": 0.01, "input_jitter_noise": 0.01, "rope_theta": 10000.0},
        **{"original_max_position_embeddings": 256, "max_position_embeddings": 2048},
        "rope_scaling": {
            **{"type": "longrope", "short_mscale": 1.2, "long_mscale": 1.2, "original_max_position_embeddings": 256},
            **{"long_factor": [1.0 + 0.5 * i for i in range(32)], "short_factor": [1.0 + 0.05 * i for i in range(32)]},
        },
    },
    "gpt_oss": {
        **{"architectures": ["GptOssForCausalLM"], **DECODER, "hidden_size": 256, "intermediate_size": 256},
        **{"head_dim": 32, "num_local_experts": 6, "num_experts_per_tok": 2, "experts_per_token": 2},
        **{"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"], "attention_bias": True},
        **{"rope_theta": 150000.0, "rope_scaling": {**YARN, "beta_fast": 3.0, "beta_slow": 0.3, "truncate": False}},
        **{"swiglu_limit": 1.5, "max_position_embeddings": 128, "initial_context_length": 32},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("qwen3moe", {"norm_topk_prob": False}),
    ("qwen3moe", {"num_experts_per_tok": 2}),
    ("qwen2moe", {"norm_topk_prob": True}),
    ("gpt_oss", {"sliding_window": 17}),
    ("gpt_oss", {"layer_types": ["full_attention", "sliding_attention"]}),
    ("gpt_oss", {"swiglu_limit": 7.0}),
    ("gpt_oss", {"rope_scaling": {**YARN, "beta_fast": 3.0, "beta_slow": 0.3}}),
    ("ernie4_5_moe", {"moe_k": 2}),
    ("glm4_moe_lite", {"routed_scaling_factor": 1.0}),
    ("glm4moe", {"norm_topk_prob": False}),
    ("glm4moe", {"partial_rotary_factor": 1.0}),
    ("glm4moe", {"routed_scaling_factor": 1.0}),
    ("dots1", {"norm_topk_prob": False}),
    ("olmoe", {"norm_topk_prob": True}),
    ("phimoe", {"sliding_window": 23}),
    ("phimoe", {"rms_norm_eps": 0.1}),
    ("lfm2moe", {"num_experts_per_tok": 2}),
    ("lfm2moe", {"norm_eps": 0.1}),
]

PEERS: list[str] = [
    "mixtral",
    "deepseek_v3",
    "qwen3moe",
    "qwen2moe",
    "olmoe",
    "gpt_oss",
    "granitemoe",
    "granitemoeshared",
    "ernie4_5_moe",
    "glm4moe",
    "dots1",
    "glm4_moe_lite",
    "lfm2moe",
]
