"""Blocks that remember in other ways than K/V."""

from typing import Any

from golden.families.shapes import DECODER

MAMBA: dict[str, Any] = {
    **{"architectures": ["MambaForCausalLM"], "model_type": "mamba", "vocab_size": 320, "hidden_size": 256},
    **{"num_hidden_layers": 2, "state_size": 16, "expand": 2, "conv_kernel": 4, "use_conv_bias": True},
    **{"time_step_rank": 32, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "torch_dtype": "float32"},
    **{"bos_token_id": 316, "eos_token_id": 317, "intermediate_size": 512, "use_bias": False, "hidden_act": "silu"},
}

CASES: dict[str, dict[str, Any]] = {
    "mamba": MAMBA,
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
            "num_experts": 3,
            "num_experts_per_tok": 2,
            "rms_norm_eps": 1e-1,
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
    ("jamba", {"num_experts_per_tok": 1}),
    ("nemotron_h", {"hybrid_override_pattern": "M-*M", "n_groups": 1, "ssm_state_size": 64}),
    ("mamba2", {"n_groups": 1, "state_size": 64}),
]

PEERS: list[str] = ["lfm2", "mamba", "falcon_mamba", "mamba2", "nemotron_h", "jamba"]
