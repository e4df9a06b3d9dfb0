"""Gemma."""

from typing import Any

from golden.families.shapes import DECODER

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

CASES: dict[str, dict[str, Any]] = {
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
    "gemma3": {
        **{"architectures": ["Gemma3ForCausalLM"], **GEMMA, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    },
    "gemma3_tuned": {
        **{"architectures": ["Gemma3ForCausalLM"], **GEMMA, "query_pre_attn_scalar": 100},
        **{"sliding_window_pattern": 6, "final_logit_softcapping": 20.0},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("gemma3", {"sliding_window": 17}),
    ("gemma3", {"sliding_window_pattern": 4}),
    ("gemma3", {"rope_scaling": None}),
    ("gemma3", {"rope_local_base_freq": 20000.0}),
    ("gemma3_tuned", {"query_pre_attn_scalar": 48}),
    ("gemma3_tuned", {"final_logit_softcapping": None}),
    ("gemma2", {"sliding_window": 17}),
    ("gemma2", {"attn_logit_softcapping": 10.0}),
    ("gemma2", {"final_logit_softcapping": 6.0}),
    ("gemma2", {"query_pre_attn_scalar": 48}),
]

PEERS: list[str] = []
