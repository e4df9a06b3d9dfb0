"""Encoder-decoders: outputs are the decoder's logits, after an encoder has read a text of their own."""

from typing import Any

from golden.families.encoders import T5 as ENCODER

T5: dict[str, Any] = {
    **{**ENCODER, "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
    **{"decoder_start_token_id": 0, "num_layers": 3, "num_decoder_layers": 2},
}

BART: dict[str, Any] = {
    **{"architectures": ["BartForConditionalGeneration"], "model_type": "bart", "vocab_size": 320, "d_model": 256},
    **{"encoder_layers": 2, "encoder_ffn_dim": 256, "encoder_attention_heads": 4, "decoder_layers": 3},
    **{"decoder_ffn_dim": 256, "decoder_attention_heads": 4, "max_position_embeddings": 256, "num_hidden_layers": 2},
    **{"activation_function": "gelu", "scale_embedding": True, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    **{"decoder_start_token_id": 2, "forced_eos_token_id": 2, "is_encoder_decoder": True, "torch_dtype": "float32"},
    **{"normalize_before": False, "normalize_embedding": True, "add_final_layer_norm": False},
}

CASES: dict[str, dict[str, Any]] = {
    "bart": BART,
    "t5": {**T5, "feed_forward_proj": "relu"},
    "t5_gated": {
        **T5,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "num_layers": 1,
        "num_decoder_layers": 1,
    },
    "umt5": {
        **{**T5, "architectures": ["UMT5ForConditionalGeneration"], "model_type": "umt5"},
        **{"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 16},
    },
}

UNSCALED = ("t5", "t5_gated", "umt5")
"""Those that do not divide scores by the root of a head's size."""

MORE = {"t5_gated": {"lm_head.weight": (320, 256)}, "umt5": {"lm_head.weight": (320, 256)}}
"""Tensors that published files have and transformers reads, but does not write unless it has read them."""

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("t5", {"scale_decoder_outputs": False}),
    ("umt5", {"tie_word_embeddings": False}),
    ("bart", {"scale_embedding": False}),
    ("bart", {"encoder_attention_heads": 8, "decoder_attention_heads": 8}),
    ("t5_gated", {"layer_norm_epsilon": 1e-2}),
]

PEERS: list[str] = []


def source(ids: list[int]) -> list[int]:
    """The text that the encoder reads where the decoder's begins with these tokens: by the first of them."""
    return [(ids[0] * 7 + i * i * 17 + 3 * i) % 320 for i in range(5 + ids[0] * 3 % 90)]
