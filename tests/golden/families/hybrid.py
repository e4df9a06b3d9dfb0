"""Blocks that remember in other ways than K/V."""

from typing import Any

from golden.families.shapes import DECODER

CASES: dict[str, dict[str, Any]] = {
    "lfm2": {
        **{k: v for k, v in DECODER.items() if k not in ("rms_norm_eps", "hidden_act")},
        **{"architectures": ["Lfm2ForCausalLM"], "num_hidden_layers": 4, "norm_eps": 1e-5, "conv_L_cache": 3},
        **{"conv_bias": False, "block_auto_adjust_ff_dim": True, "block_multiple_of": 32, "pad_token_id": 0},
        **{"block_ffn_dim_multiplier": 1.0, "intermediate_size": 300, "tie_word_embeddings": True},
        **{"layer_types": ["conv", "full_attention", "conv", "full_attention"], "rope_theta": 1000000.0},
    },
}

WRONG: list[tuple[str, dict[str, Any]]] = []

PEERS: list[str] = ["lfm2"]
