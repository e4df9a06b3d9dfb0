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

CASES: dict[str, dict[str, Any]] = {
    "bert": {"architectures": ["BertModel"], **BERT},
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"layer_norm_eps": 1e-2}),
]

PEERS: list[str] = []
