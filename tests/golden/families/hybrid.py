"""Blocks that remember in other ways than K/V."""

from typing import Any

from golden.families.shapes import DECODER

MAMBA: dict[str, Any] = {
    **{"architectures": ["MambaForCausalLM"], "model_type": "mamba", "vocab_size": 320, "hidden_size": 256},
    **{"num_hidden_layers": 2, "state_size": 16, "expand": 2, "conv_kernel": 4, "use_conv_bias": True},
    **{"time_step_rank": 32, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "torch_dtype": "float32"},
    **{"bos_token_id": 316, "eos_token_id": 317, "intermediate_size": 512, "use_bias": False, "hidden_act": "silu"},
}

QWEN3NEXT: dict[str, Any] = {
    **{**DECODER, "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "hidden_size": 256},
    **{"num_hidden_layers": 2, "full_attention_interval": 2, "head_dim": 64, "partial_rotary_factor": 0.25},
    **{"linear_conv_kernel_dim": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 32, "rms_norm_eps": 1e-6},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 8, "num_experts": 4, "num_experts_per_tok": 3},
    **{"moe_intermediate_size": 256, "shared_expert_intermediate_size": 256, "norm_topk_prob": True},
    **{"decoder_sparse_step": 1, "mlp_only_layers": [], "rope_theta": 10000.0, "rope_scaling": None},
}

_DENSE = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size")
_DENSE += ("norm_topk_prob", "decoder_sparse_step", "mlp_only_layers", "rope_theta", "rope_scaling")
_MROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
_MROPE |= {"mrope_interleaved": True, "mrope_section": [3, 3, 2]}

QWEN35: dict[str, Any] = {
    **{k: v for k, v in QWEN3NEXT.items() if k not in _DENSE},
    **{"architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "num_hidden_layers": 2},
    **{"intermediate_size": 512, "rope_parameters": _MROPE},
}

FALCON_H1: dict[str, Any] = {
    **{**DECODER, "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "hidden_size": 256},
    **{"intermediate_size": 512, "head_dim": 32, "rms_norm_eps": 1e-3, "mamba_d_ssm": 256, "mamba_n_heads": 8},
    **{"mamba_d_head": 32, "mamba_n_groups": 2, "mamba_d_state": 32, "mamba_d_conv": 4, "mamba_expand": 2},
    **{"mamba_chunk_size": 16, "mamba_conv_bias": True, "mamba_proj_bias": False, "mamba_rms_norm": True},
    **{"mamba_norm_before_gate": False, "projectors_bias": False, "attention_bias": False, "mlp_bias": False},
    **{"lm_head_multiplier": 0.5, "embedding_multiplier": 3.0, "mlp_multipliers": [0.75, 0.5], "key_multiplier": 0.625},
    **{"attention_out_multiplier": 0.9375, "attention_in_multiplier": 1.25, "ssm_in_multiplier": 1.5},
    **{"ssm_out_multiplier": 0.875, "ssm_multipliers": [0.5, 0.75, 1.25, 1.5, 0.625]},
}

RWKV7: dict[str, Any] = {
    **{"architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7", "attn": None, "attn_mode": "chunk"},
    **{"hidden_size": 256, "num_hidden_layers": 3, "head_dim": 64, "num_heads": 4, "hidden_ratio": 4.0},
    **{"intermediate_size": 512, "hidden_act": "sqrelu", "norm_first": True, "norm_bias": True, "norm_eps": 1e-5},
    **{"decay_low_rank_dim": 32, "gate_low_rank_dim": 64, "a_low_rank_dim": 48, "v_low_rank_dim": 16},
    **{"fuse_norm": True, "value_dim": [256] * 3, "vocab_size": 320, "max_position_embeddings": 2048},
    **{"bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False},
}

CASES: dict[str, dict[str, Any]] = {
    "mamba": MAMBA,
    "rwkv7": RWKV7,
    "qwen35": QWEN35,
    "qwen35moe": {
        **{k: v for k, v in QWEN3NEXT.items() if k not in ("rope_theta", "rope_scaling", "norm_topk_prob")},
        **{
            "architectures": ["Qwen3_5MoeForCausalLM"],
            "model_type": "qwen3_5_moe_text",
            "num_experts": 6,
            "num_experts_per_tok": 2,
        },
        **{"linear_key_head_dim": 64, "linear_value_head_dim": 64, "linear_num_value_heads": 4},
        **{"rope_parameters": _MROPE},
    },
    "falcon_h1": FALCON_H1,
    "qwen3next": QWEN3NEXT,
    "falcon_mamba": {
        **{**MAMBA, "architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "mixer_rms_eps": 1e-6},
        **{"tie_word_embeddings": False, "time_step_rank": 16, "num_hidden_layers": 2},
    },
    "mamba2": {
        **{k: v for k, v in MAMBA.items() if k not in ("intermediate_size", "time_step_rank")},
        **{"architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "n_groups": 2, "num_heads": 8},
        **{"head_dim": 64, "state_size": 32, "tie_word_embeddings": False, "chunk_size": 16},
    },
    "jamba": {
        **{**DECODER, "architectures": ["JambaForCausalLM"], "model_type": "jamba", "hidden_size": 256},
        **{"num_hidden_layers": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
        **{
            "expert_layer_offset": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "rms_norm_eps": 1e-5,
            "mamba_d_state": 16,
        },
        **{"mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 16, "intermediate_size": 256},
    },
    "nemotron_h": {
        **{k: v for k, v in MAMBA.items() if k not in ("expand", "time_step_rank", "state_size", "hidden_act")},
        **{"architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "hybrid_override_pattern": "M-*M"},
        **{"num_hidden_layers": 4, "ssm_state_size": 32, "mamba_num_heads": 4, "mamba_head_dim": 64, "n_groups": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "mlp_hidden_act": "relu2"},
        **{"chunk_size": 16, "max_position_embeddings": 256, "tie_word_embeddings": False, "mlp_bias": False},
    },
    "granitehybrid": {
        **{**DECODER, "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid"},
        **{"hidden_size": 256, "intermediate_size": 256, "shared_intermediate_size": 256, "num_local_experts": 4},
        **{"num_experts_per_tok": 2, "layer_types": ["mamba", "attention"], "position_embedding_type": "nope"},
        **{"embedding_multiplier": 12.0, "logits_scaling": 3.0, "residual_multiplier": 0.5, "rms_norm_eps": 1e-3},
        **{"attention_multiplier": 0.25, "mamba_n_heads": 16, "mamba_n_groups": 1, "mamba_d_state": 32},
        **{"mamba_d_head": 32, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 16},
        **{"mamba_conv_bias": True, "mamba_proj_bias": False, "attention_bias": False},
    },
    "granitehybrid_dense": {
        **{**DECODER, "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid"},
        **{"hidden_size": 256, "intermediate_size": 256, "shared_intermediate_size": 512, "num_local_experts": 0},
        **{"num_experts_per_tok": 0, "layer_types": ["mamba", "attention"], "position_embedding_type": "rope"},
        **{"embedding_multiplier": 12.0, "logits_scaling": 3.0, "residual_multiplier": 0.5, "rms_norm_eps": 1e-3},
        **{"attention_multiplier": 0.25, "mamba_n_heads": 16, "mamba_n_groups": 1, "mamba_d_state": 32},
        **{"mamba_d_head": 32, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 16},
        **{"mamba_conv_bias": True, "mamba_proj_bias": False, "tie_word_embeddings": True},
    },
    "nemotron_h_moe": {
        **{k: v for k, v in MAMBA.items() if k not in ("expand", "time_step_rank", "state_size", "hidden_act")},
        **{"architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "hybrid_override_pattern": "ME*E"},
        **{"num_hidden_layers": 4, "ssm_state_size": 32, "mamba_num_heads": 4, "mamba_head_dim": 64, "n_groups": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "mlp_hidden_act": "relu2"},
        **{"chunk_size": 16, "max_position_embeddings": 256, "tie_word_embeddings": False, "mlp_bias": False},
        **{"n_routed_experts": 8, "n_shared_experts": 1, "moe_intermediate_size": 256, "num_experts_per_tok": 2},
        **{"moe_shared_expert_intermediate_size": 256, "routed_scaling_factor": 2.5, "n_group": 1, "topk_group": 1},
        **{"norm_topk_prob": True, "moe_latent_size": 512},
    },
    "lfm2": {
        **{k: v for k, v in DECODER.items() if k not in ("rms_norm_eps", "hidden_act")},
        **{"architectures": ["Lfm2ForCausalLM"], "num_hidden_layers": 4, "norm_eps": 1e-5, "conv_L_cache": 3},
        **{"conv_bias": False, "block_auto_adjust_ff_dim": True, "block_multiple_of": 32, "pad_token_id": 0},
        **{"block_ffn_dim_multiplier": 1.0, "intermediate_size": 300, "tie_word_embeddings": True},
        **{"layer_types": ["conv", "full_attention", "conv", "full_attention"], "rope_theta": 1000000.0},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("mamba", {"layer_norm_epsilon": 0.1}),
    ("falcon_mamba", {"model_type": "mamba"}),
    ("rwkv7", {"norm_eps": 1e-3}),
    ("rwkv7", {"head_dim": 32}),
    ("jamba", {"num_experts_per_tok": 1}),
    ("nemotron_h", {"hybrid_override_pattern": "M-*M", "n_groups": 1, "ssm_state_size": 64}),
    ("mamba2", {"n_groups": 1, "state_size": 64}),
    ("qwen3next", {"partial_rotary_factor": 0.5}),
    ("qwen3next", {"num_experts_per_tok": 1}),
    ("qwen3next", {"norm_topk_prob": False}),
    ("qwen35", {"linear_num_key_heads": 4, "linear_key_head_dim": 16}),
    ("qwen35moe", {"rms_norm_eps": 0.1}),
    ("falcon_h1", {"key_multiplier": 1.0}),
    ("falcon_h1", {"ssm_multipliers": [0.5, 0.75, 1.5, 1.25, 0.625]}),
    ("falcon_h1", {"mlp_multipliers": [0.5, 0.75]}),
    ("granitehybrid", {"residual_multiplier": 1.0}),
    ("granitehybrid_dense", {"position_embedding_type": None}),
    ("nemotron_h_moe", {"routed_scaling_factor": 1.0}),
    ("nemotron_h_moe", {"norm_topk_prob": False}),
]

PEERS: list[str] = [
    *("lfm2", "mamba", "falcon_mamba", "mamba2", "nemotron_h", "jamba", "qwen3next", "qwen35", "qwen35moe"),
    *("falcon_h1", "granitehybrid", "granitehybrid_dense", "nemotron_h_moe", "rwkv7"),
]
