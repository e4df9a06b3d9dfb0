"""Encoders: outputs are hidden states."""

from typing import Any

from golden.families.gemma import GEMMA

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

T5: dict[str, Any] = {
    **{"architectures": ["T5EncoderModel"], "model_type": "t5", "vocab_size": 320, "d_model": 256, "d_ff": 256},
    **{"d_kv": 32, "num_heads": 4, "num_layers": 2, "n_positions": 512, "layer_norm_epsilon": 1e-6},
    **{"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "pad_token_id": 0},
    **{"eos_token_id": 1, "is_encoder_decoder": False, "torch_dtype": "float32"},
}

NOMIC: dict[str, Any] = {
    **{**WIDE, "layer_norm_eps": 1e-5, "num_hidden_layers": 4, "max_position_embeddings": 512},
    **{"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "n_embd": 256, "n_inner": 256, "n_head": 4},
    **{"layer_norm_epsilon": 1e-5, "causal": False, "prenorm": False, "max_trained_positions": 2048},
    **{"rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None},
}

JINA: dict[str, Any] = {
    **{**WIDE, "architectures": ["JinaBertForMaskedLM"], "model_type": "bert", "num_attention_heads": 8},
    **{"position_embedding_type": "alibi", "feed_forward_type": "geglu", "emb_pooler": "mean"},
    **{"max_position_embeddings": 8192, "layer_norm_eps": 1e-5},
}

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
    "nomic_bert": {
        **{"architectures": ["NomicBertModel"], "model_type": "nomic_bert", **WIDE, "hidden_act": "silu"},
        **{
            "n_embd": 256,
            "n_inner": 256,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 8192,
            "max_trained_positions": 2048,
        },
        **{"layer_norm_epsilon": 1e-5, "layer_norm_eps": 1e-5, "rotary_emb_base": 1000.0, "rope_theta": 1000.0},
        **{"activation_function": "swiglu", "causal": False, "qkv_proj_bias": False, "mlp_fc1_bias": False},
        **{"mlp_fc2_bias": False, "prenorm": False, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False},
        **{"rotary_emb_scale_base": None, "max_position_embeddings": 2048},
    },
    "nomic_bert_moe": {
        **{**NOMIC, "n_layer": 4, "n_positions": 2048, "rotary_emb_base": 10000.0, "activation_function": "gelu"},
        **{"rope_theta": 10000.0, "num_experts": 4, "moe_top_k": 2, "moe_every_n_layers": 2},
        **{"qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True, "ffn_div": 1, "num_shared_experts": 0},
        **{"moe_normalize_expert_weights": False, "expert_choice_router": False},
    },
    "jina_bert_v2": JINA,
    "jina_bert_v2_code": {
        **{**JINA, "hidden_size": 192, "num_attention_heads": 12},
        **{"_name_or_path": "jinaai/jina-bert-v2-qk-post-norm"},
    },
    "modern_bert": {
        **{"architectures": ["ModernBertModel"], "model_type": "modernbert", "vocab_size": 320, "hidden_size": 256},
        **{
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "norm_eps": 1e-5,
            "layer_norm_eps": 1e-5,
        },
        **{"max_position_embeddings": 256, "global_attn_every_n_layers": 3, "local_attention": 32},
        **{"global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "hidden_activation": "gelu"},
        **{"norm_bias": False, "attention_bias": False, "mlp_bias": False, "classifier_pooling": "mean"},
        **{"pad_token_id": 318, "bos_token_id": 316, "eos_token_id": 317, "cls_token_id": 316, "sep_token_id": 317},
        **{"torch_dtype": "float32"},
    },
    "gemma_embedding": {
        **{"architectures": ["Gemma3TextModel"], "model_type": "gemma3_text", **GEMMA, "hidden_size": 256},
        **{"intermediate_size": 256, "head_dim": 64, "query_pre_attn_scalar": 64, "use_bidirectional_attention": True},
        **{"sliding_window": 32, "num_hidden_layers": 4, "num_key_value_heads": 1},
    },
    "t5encoder": {**T5, "feed_forward_proj": "gated-gelu"},
    "t5encoder_relu": {**T5, "feed_forward_proj": "relu", "relative_attention_num_buckets": 16},
}

BYTES = (*("t5encoder", "t5encoder_relu"), "roberta", "modern_bert", "gemma_embedding")
"""Those whose tokens are pairs of bytes, not pieces of words."""

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"layer_norm_eps": 1e-2}),
    ("roberta", {"pad_token_id": 4}),
    ("roberta", {"layer_norm_eps": 1e-2}),
    ("distilbert", {"n_heads": 8}),
    ("nomic_bert", {"layer_norm_epsilon": 1e-2}),
    ("nomic_bert_moe", {"layer_norm_epsilon": 1e-2}),
    ("nomic_bert_moe", {"moe_top_k": 1}),
    ("nomic_bert_moe", {"rotary_emb_base": 1000.0}),
    ("jina_bert_v2", {"layer_norm_eps": 1e-2}),
    ("jina_bert_v2", {"num_attention_heads": 4}),
    ("modern_bert", {"local_attention": 34}),
    ("modern_bert", {"global_attn_every_n_layers": 2}),
    ("modern_bert", {"local_rope_theta": 160000.0}),
    ("gemma_embedding", {"sliding_window": 34}),
    ("t5encoder", {"layer_norm_epsilon": 1e-2}),
    ("gemma_embedding", {"sliding_window_pattern": 4}),
]

PEERS: list[str] = []
