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
}

WRONG: list[tuple[str, dict[str, Any]]] = []

PEERS: list[str] = ["mixtral", "deepseek_v3"]
