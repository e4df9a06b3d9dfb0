"""Qwen."""

from typing import Any

from golden.families.shapes import DECODER

QWEN: dict[str, Any] = {**DECODER, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "use_sliding_window": False}

CASES: dict[str, dict[str, Any]] = {
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], **QWEN, "sliding_window": 131072, "max_window_layers": 2},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], **QWEN, "head_dim": 48, "tie_word_embeddings": True},
}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("qwen2", {"rope_theta": 10000.0}),
]

PEERS: list[str] = []
