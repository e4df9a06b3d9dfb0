"""Encoders: outputs are hidden states."""

from typing import Any

BERT: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 224,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "pad_token_id": 0,
    "torch_dtype": "float32",
}

WIDE: dict[str, Any] = {**BERT, "hidden_size": 256, "intermediate_size": 256}

CASES: dict[str, dict[str, Any]] = {
    "bert": {"architectures": ["BertModel"], **BERT},
    "roberta": {
        **{"architectures": ["RobertaModel"], "model_type": "roberta", **WIDE, "type_vocab_size": 1},
        **{"pad_token_id": 5, "bos_token_id": 316, "eos_token_id": 317, "layer_norm_eps": 1e-5},
    },
    "distilbert": {
        **{"architectures": ["DistilBertModel"], "model_type": "distilbert", "vocab_size": 320, "dim": 256},
        **{"hidden_dim": 256, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 128, "activation": "gelu"},
        **{"sinusoidal_pos_embds": False, "pad_token_id": 0, "torch_dtype": "float32"},
    },
}

BYTES = ("roberta", "modern_bert")
"""Those whose tokens are pairs of bytes, not pieces of words."""

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"layer_norm_eps": 1e-2}),
    ("roberta", {"pad_token_id": 4}),
    ("roberta", {"layer_norm_eps": 1e-2}),
    ("distilbert", {"n_heads": 8}),
]

PEERS: list[str] = []
