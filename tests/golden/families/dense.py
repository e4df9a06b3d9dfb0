"""Other dense decoders."""

from typing import Any

from golden.families.shapes import DECODER, YARN

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
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("phi3", {"sliding_window": 23}),
    ("command_r", {"logit_scale": 0.5}),
    ("command_r_plus", {"layer_norm_eps": 1e-2}),
    ("olmo3", {"sliding_window": 17}),
    ("olmo3", {"rope_scaling": None}),
    ("olmo3", {"layer_types": ["full_attention", *["sliding_attention"] * 3]}),
]

PEERS: list[str] = []
