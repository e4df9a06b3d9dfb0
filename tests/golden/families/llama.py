"""Llama, SmolLM, Mistral."""

from typing import Any

from golden.families.shapes import DECODER, LLAMA3, YARN

CASES: dict[str, dict[str, Any]] = {
    "llama2": {"architectures": ["LlamaForCausalLM"], **DECODER, "num_key_value_heads": 4, "rope_scaling": None},
    "llama3": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "rope_theta": 500000.0, "rope_scaling": LLAMA3},
        **{"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    },
    "llama_linear": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "rope_scaling": {"type": "linear", "factor": 2.0}},
    },
    "llama_yarn": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "rope_scaling": YARN, "max_position_embeddings": 128},
    },
    "llama_yarn_tuned": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "max_position_embeddings": 128},
        "rope_scaling": {**YARN, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0},
    },
    "llama_one_kv": {"architectures": ["LlamaForCausalLM"], **DECODER, "num_key_value_heads": 1},
    "smollm": {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "hidden_size": 144, "intermediate_size": 384},
        **{"num_attention_heads": 9, "num_key_value_heads": 3, "rope_theta": 100000.0, "tie_word_embeddings": True},
    },
    "mistral": {
        **{"architectures": ["MistralForCausalLM"], **DECODER, "head_dim": 48, "sliding_window": None},
    },
    "ministral": {
        **{"architectures": ["MinistralForCausalLM"], **DECODER, "head_dim": 48, "sliding_window": 20},
    },
    "mistral_window": {"architectures": ["MistralForCausalLM"], **DECODER, "sliding_window": 16},
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("llama2", {"rms_norm_eps": 1e-2}),
    ("llama2", {"rope_theta": 20000.0}),
    ("llama3", {"rope_scaling": None}),
    ("mistral_window", {"sliding_window": 17}),
    ("ministral", {"sliding_window": 19}),
    ("ministral", {"layer_types": ["full_attention"] * 2}),
]

PEERS: list[str] = []
