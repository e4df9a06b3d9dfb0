"""Other dense decoders."""

from typing import Any

from golden.families.shapes import DECODER, LLAMA3, WIDE, YARN


def without(*keys: str) -> dict[str, Any]:
    """What wide cases begin with, but for some keys."""
    return {key: value for key, value in WIDE.items() if key not in keys}


FALCON: dict[str, Any] = {
    **without("rms_norm_eps", "hidden_act", "intermediate_size", "num_key_value_heads", "rope_theta"),
    **{"activation": "gelu", "layer_norm_epsilon": 1e-5, "alibi": False, "bias": False, "parallel_attn": True},
    **{"new_decoder_architecture": False, "max_position_embeddings": 2048, "tie_word_embeddings": True},
}

SHORT = [1.0 + 0.05 * i for i in range(12)]
LONG = [1.0 + 0.8 * i for i in range(12)]

INTERNLM2: dict[str, Any] = {
    **{"architectures": ["InternLM2ForCausalLM"], **DECODER, "rope_theta": 1000000.0, "bias": False},
    **{"rope_scaling": {"type": "dynamic", "factor": 2.0}, "attn_implementation": "eager"},
}
EXAONE: dict[str, Any] = {
    **{"architectures": ["ExaoneForCausalLM"], **DECODER, "activation_function": "silu", "layer_norm_epsilon": 1e-5},
    **{"head_dim": 32, "num_layers": 2, "rope_theta": 500000.0, "rope_scaling": LLAMA3},
}

CASES: dict[str, dict[str, Any]] = {
    "phi3": {
        **{"architectures": ["Phi3ForCausalLM"], **DECODER, "sliding_window": 24, "pad_token_id": 0},
        **{"original_max_position_embeddings": 256, "rope_scaling": None},
    },
    "phi3_long": {
        **{"architectures": ["Phi3ForCausalLM"], **DECODER, "sliding_window": None, "pad_token_id": 0},
        **{"original_max_position_embeddings": 64, "max_position_embeddings": 512, "partial_rotary_factor": 0.75},
        **{"rope_scaling": {"type": "longrope", "long_factor": LONG, "short_factor": SHORT}},
    },
    "phi3_short": {
        **{"architectures": ["Phi3ForCausalLM"], **DECODER, "sliding_window": None, "pad_token_id": 0},
        **{"original_max_position_embeddings": 256, "max_position_embeddings": 2048, "partial_rotary_factor": 0.75},
        **{"rope_scaling": {"type": "longrope", "long_factor": LONG, "short_factor": SHORT}},
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
    "smollm3": {
        **{"architectures": ["SmolLM3ForCausalLM"], **WIDE, "num_hidden_layers": 4, "rope_theta": 2000000.0},
        **{"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4, "use_sliding_window": False},
        **{"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "pad_token_id": 0},
    },
    "granite": {
        **{"architectures": ["GraniteForCausalLM"], **WIDE, "attention_multiplier": 0.1, "embedding_multiplier": 6.0},
        **{"residual_multiplier": 0.3, "logits_scaling": 4.0, "attention_bias": False, "mlp_bias": False},
        **{"rope_scaling": None, "pad_token_id": 0, "tie_word_embeddings": True},
    },
    "starcoder2": {
        **{"architectures": ["Starcoder2ForCausalLM"], **without("rms_norm_eps"), "hidden_act": "gelu_pytorch_tanh"},
        **{"norm_epsilon": 1e-5, "norm_type": "layer_norm", "mlp_type": "default", "use_bias": True},
        **{"sliding_window": None, "tie_word_embeddings": True},
    },
    "stablelm": {
        **{"architectures": ["StableLmForCausalLM"], **without("rms_norm_eps"), "layer_norm_eps": 1e-5},
        **{"partial_rotary_factor": 0.25, "use_qkv_bias": True, "qk_layernorm": False},
        **{"use_parallel_residual": False, "num_key_value_heads": 4, "hidden_size": 256, "intermediate_size": 512},
    },
    "stablelm_parallel": {
        **{"architectures": ["StableLmForCausalLM"], **without("rms_norm_eps"), "layer_norm_eps": 1e-5},
        **{"partial_rotary_factor": 0.5, "use_qkv_bias": False, "qk_layernorm": True, "use_parallel_residual": True},
    },
    "phi2": {
        **{"architectures": ["PhiForCausalLM"], **without("rms_norm_eps"), "hidden_act": "gelu_new"},
        **{"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "qk_layernorm": False, "rope_scaling": None},
        **{"intermediate_size": 1024, "num_key_value_heads": None},
    },
    "gpt2": {
        **{"architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5},
        **{"vocab_size": 320, "n_ctx": 256, "n_positions": 256, "n_embd": 256, "n_layer": 2, "n_head": 4},
        **{"bos_token_id": 316, "eos_token_id": 317, "torch_dtype": "float32"},
    },
    "gptneox": {
        **{"architectures": ["GPTNeoXForCausalLM"], **without("rms_norm_eps", "num_key_value_heads", "rope_theta")},
        **{"hidden_act": "gelu", "layer_norm_eps": 1e-5, "rotary_pct": 0.25, "rotary_emb_base": 10000},
        **{"use_parallel_residual": True},
    },
    "gptneox_serial": {
        **{"architectures": ["GPTNeoXForCausalLM"], **without("rms_norm_eps", "num_key_value_heads", "rope_theta")},
        **{"hidden_act": "gelu", "layer_norm_eps": 1e-5, "rotary_pct": 0.5, "rotary_emb_base": 10000},
        **{"use_parallel_residual": False},
    },
    "falcon_7b": {"architectures": ["FalconForCausalLM"], **FALCON, "multi_query": True},
    "falcon_40b": {
        **{"architectures": ["FalconForCausalLM"], **FALCON, "multi_query": True, "num_kv_heads": 2},
        **{"new_decoder_architecture": True},
    },
    "falcon_11b": {
        **{"architectures": ["FalconForCausalLM"], **FALCON, "multi_query": True, "num_kv_heads": 2},
        **{"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "rope_theta": 500042.0},
    },
    "cohere2": {
        **{"architectures": ["Cohere2ForCausalLM"], **without("rms_norm_eps"), "num_hidden_layers": 4},
        **{"layer_norm_eps": 1e-5, "logit_scale": 0.25, "sliding_window": 16, "sliding_window_pattern": 4},
        **{"rotary_pct": 1.0, "rope_theta": 50000.0, "tie_word_embeddings": True, "pad_token_id": 0},
        **{"attention_bias": False, "order_of_interleaved_layers": "local_attn_first", "layer_switch": 4},
        **{"position_embedding_type": "rope_gptj", "use_gated_activation": True, "use_parallel_block": True},
    },
    "arcee": {
        **{"architectures": ["ArceeForCausalLM"], **WIDE, "hidden_act": "relu2", "mlp_bias": False},
        **{"attention_bias": False, "head_dim": 64, "rope_scaling": YARN, "max_position_embeddings": 128},
    },
    "nemotron": {
        **{"architectures": ["NemotronForCausalLM"], **without("rms_norm_eps"), "hidden_act": "relu2"},
        **{"norm_eps": 1e-5, "partial_rotary_factor": 0.5, "head_dim": 64, "attention_bias": False, "mlp_bias": False},
    },
    "bloom": {
        **{"architectures": ["BloomForCausalLM"], "vocab_size": 320, "n_embed": 384, "n_layer": 2, "n_head": 6},
        **{"hidden_size": 384, "layer_norm_epsilon": 1e-5, "seq_length": 256, "tie_word_embeddings": True},
        **{"bos_token_id": 316, "eos_token_id": 317, "torch_dtype": "float32", "pretraining_tp": 1},
        **{"apply_residual_connection_post_layernorm": False, "slow_but_exact": False},
    },
    "internlm2": INTERNLM2,
    "exaone": {k: v for k, v in EXAONE.items() if k not in ("num_hidden_layers", "rms_norm_eps", "hidden_act")},
    "olmo": {
        **{"architectures": ["OlmoForCausalLM"], **without("rms_norm_eps"), "clip_qkv": 0.8, "attention_bias": False},
        **{"pad_token_id": 0, "rope_scaling": None},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("phi3", {"sliding_window": 23}),
    ("phi3_long", {"rope_scaling": {"type": "su", "long_factor": SHORT, "short_factor": SHORT}}),
    ("phi3_long", {"max_position_embeddings": 1024}),
    ("phi3_short", {"rope_scaling": {"type": "su", "long_factor": SHORT, "short_factor": LONG}}),
    ("command_r", {"logit_scale": 0.5}),
    ("command_r_plus", {"layer_norm_eps": 1e-2}),
    ("olmo3", {"sliding_window": 17}),
    ("olmo3", {"rope_scaling": None}),
    ("olmo3", {"layer_types": ["full_attention", *["sliding_attention"] * 3]}),
    ("smollm3", {"rope_theta": 10000.0}),
    ("granite", {"attention_multiplier": 0.125}),
    ("granite", {"embedding_multiplier": 12.0}),
    ("granite", {"residual_multiplier": 1.0}),
    ("granite", {"logits_scaling": 1.0}),
    ("starcoder2", {"sliding_window": 16}),
    ("starcoder2", {"norm_epsilon": 1e-2}),
    ("stablelm", {"partial_rotary_factor": 0.5}),
    ("stablelm_parallel", {"layer_norm_eps": 1e-2}),
    ("phi2", {"partial_rotary_factor": 0.25}),
    ("gpt2", {"layer_norm_epsilon": 1e-2}),
    ("gptneox", {"use_parallel_residual": False}),
    ("gptneox", {"rotary_pct": 0.5}),
    ("falcon_11b", {"rope_theta": 10000.0}),
    ("cohere2", {"sliding_window": 17}),
    ("cohere2", {"sliding_window_pattern": 2}),
    ("olmo", {"clip_qkv": None}),
    ("bloom", {"layer_norm_epsilon": 1e-2}),
    ("internlm2", {"rope_theta": 10000.0}),
    ("exaone", {"rope_scaling": None}),
    ("exaone", {"layer_norm_epsilon": 1e-2}),
    ("arcee", {"rope_theta": 20000.0}),
    ("nemotron", {"partial_rotary_factor": 1.0}),
]

PEERS: list[str] = [
    *("phi3_long", "phi3_short"),
    *("smollm3", "granite", "starcoder2", "stablelm", "stablelm_parallel", "phi2", "gpt2", "gptneox", "gptneox_serial"),
    *("falcon_7b", "falcon_40b", "falcon_11b", "cohere2", "olmo", "arcee", "nemotron", "internlm2", "exaone", "bloom"),
]
