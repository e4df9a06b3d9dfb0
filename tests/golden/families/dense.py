"""Other dense decoders."""

from typing import Any

from golden.families.shapes import DECODER, WIDE, YARN

CASES: dict[str, dict[str, Any]] = {
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
    "smollm3": {
        **{"architectures": ["SmolLM3ForCausalLM"], **DECODER, "num_hidden_layers": 4, "rope_theta": 2000000.0},
        **{"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4, "use_sliding_window": False},
        **{"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "pad_token_id": 0},
    },
    "granite": {
        **{"architectures": ["GraniteForCausalLM"], **WIDE, "attention_multiplier": 0.1, "embedding_multiplier": 6.0},
        **{"residual_multiplier": 0.3, "logits_scaling": 4.0, "attention_bias": False, "mlp_bias": False},
        **{"rope_scaling": None, "pad_token_id": 0, "tie_word_embeddings": True},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("phi3", {"sliding_window": 23}),
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
]

PEERS: list[str] = ["smollm3", "granite"]
