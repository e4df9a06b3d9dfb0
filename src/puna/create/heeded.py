"""Which keys of config.json an architecture heeds, and which it would pass over though they may change numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from puna.arch.base import Architecture
from puna.arch.hparams import FIELDS
from puna.create.config_values import reading_config
from puna.create.prequantized import plain_config

OF_TRAINING = """
    architectures model_type torch_dtype dtype transformers_version auto_map _name_or_path _attn_implementation
    initializer_range initializer_factor init_std pretraining_tp use_cache gradient_checkpointing
    max_window_layers attention_dropout hidden_dropout dropout resid_pdrop embd_pdrop attn_pdrop
    embedding_dropout residual_dropout hidden_dropout_prob attention_probs_dropout_prob classifier_dropout
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id decoder_start_token_id
    id2label label2id num_labels problem_type task_specific_params is_decoder is_encoder_decoder
    output_attentions output_hidden_states return_dict num_logits_to_keep router_aux_loss_coef
    output_router_logits
"""
"""Keys that change nothing that is computed."""

OF_TENSORS = """
    attention_bias attention_out_bias mlp_bias use_bias qkv_bias bias tie_word_embeddings vocab_size text_config
    max_position_embeddings rope_theta rope_scaling rope_parameters partial_rotary_factor rotary_pct
"""
"""Keys that the tensors tell as well, or that are read for every architecture."""

NOTHING: tuple[Any, ...] = (None, False, 0, 0.0, "", [], {})
"""Values that switch a thing off."""


class Watched(dict[str, Any]):
    """A config that remembers which of its keys were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of every dict."""
        self.asked.add(key)
        return super().get(key, default)


def unheeded(arch: Architecture, config: Mapping[str, Any]) -> list[str]:
    """Keys of a config that this architecture understands that it does not heed, and that say something."""
    plain = plain_config(config)
    with reading_config(arch.name):
        watched = Watched(arch.understood(plain))
        arch.hparams_from_hf(watched)
    rows = [FIELDS[field.name] for field in fields(arch.hparams) if field.name in FIELDS]
    known = {*watched.asked, *OF_TRAINING.split(), *OF_TENSORS.split(), *arch.hf_requires, *arch.hf_defaults}
    known |= {key for row in rows for key in row.hf.split()}
    said = {**plain, **(plain.get("text_config") or {})}
    return [key for key, value in said.items() if key not in known and value not in NOTHING]
