"""Hyperparameters: one table that maps each field to its GGUF key and its Hugging Face key, read both ways.

An architecture's `Hparams` declares which fields it has; a field without a default must be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from puna.arch import rope
from puna.errors import ModelError
from puna.nn import Rope

Config = Mapping[str, Any]


class Row(NamedTuple):
    """Where a field is found, best first: GGUF keys after '<arch>.' (the first is written, if any), HF config keys."""

    gguf: str
    hf: str
    otherwise: Callable[[Mapping[str, Any]], Any] | None = None  # from the fields found so far


def _head_dim(found: Mapping[str, Any]) -> int:
    return int(found["hidden_size"] // found["n_heads"])


def _turned(found: Mapping[str, Any]) -> int:
    """The size of what rotary positions turn, or turn a part of."""
    return int(found["head_dim"] if "head_dim" in found else found["key_length"])


FIELDS: dict[str, Row] = {
    "n_blocks": Row("block_count", "num_hidden_layers n_layer n_layers num_layers"),
    "hidden_size": Row("embedding_length", "hidden_size n_embd d_model dim"),
    "ffn_size": Row("feed_forward_length", "intermediate_size n_inner ffn_hidden_size hidden_dim"),
    "n_heads": Row("attention.head_count", "num_attention_heads n_head n_heads"),
    "n_kv_heads": Row("attention.head_count_kv", "num_key_value_heads", lambda found: found["n_heads"]),
    "head_dim": Row("attention.key_length head_dim", "head_dim", _head_dim),
    "key_length": Row("attention.key_length", "key_length"),
    "value_length": Row("attention.value_length", "value_length"),
    "mla_key_length": Row("attention.key_length_mla", "mla_key_length"),
    "mla_value_length": Row("attention.value_length_mla", "mla_value_length"),
    "q_lora_rank": Row("attention.q_lora_rank", "q_lora_rank"),
    "kv_lora_rank": Row("attention.kv_lora_rank", "kv_lora_rank"),
    "context_length": Row("context_length", "max_position_embeddings n_positions seq_length"),
    "vocab_size": Row("vocab_size", "vocab_size"),
    "norm_eps": Row("attention.layer_norm_rms_epsilon", "rms_norm_eps norm_eps"),
    "layer_norm_eps": Row("attention.layer_norm_epsilon", "layer_norm_eps layer_norm_epsilon norm_epsilon"),
    "sliding_window": Row("attention.sliding_window", "sliding_window"),
    "sliding_window_pattern": Row("attention.sliding_window_pattern", "sliding_window_pattern"),
    "rope_theta_local": Row("rope.freq_base_swa rope.local.freq_base rope.freq_base_local", "rope_local_base_freq"),
    "final_softcap": Row("final_logit_softcapping", "final_logit_softcapping"),
    "attention_softcap": Row("attn_logit_softcapping", "attn_logit_softcapping"),
    "attention_scale": Row("attention.scale", "attention_multiplier"),
    "original_context": Row("rope.scaling.original_context_length", "original_max_position_embeddings"),
    "logit_scale": Row("logit_scale", "logit_scale logits_scaling"),
    "embedding_scale": Row("embedding_scale", "embedding_multiplier"),
    "residual_scale": Row("residual_scale", "residual_multiplier"),
    "rope_finetuned": Row("rope.scaling.finetuned", ""),
    "n_experts": Row("expert_count", "num_local_experts num_experts n_routed_experts"),
    "n_experts_used": Row("expert_used_count", "num_experts_per_tok top_k_experts"),
    "wkv_head_size": Row("wkv.head_size", "head_dim"),
    "decay_rank": Row("attention.decay_lora_rank", "decay_low_rank_dim"),
    "rate_rank": Row("attention.iclr_lora_rank", "a_low_rank_dim"),
    "value_mix_rank": Row("attention.value_residual_mix_lora_rank", "v_low_rank_dim"),
    "gate_rank": Row("attention.gate_lora_rank", "gate_low_rank_dim"),
    "conv_length": Row("shortconv.l_cache", "conv_L_cache"),
    "ssm_conv": Row("ssm.conv_kernel", "conv_kernel mamba_d_conv"),
    "ssm_inner": Row("ssm.inner_size", "ssm_inner"),
    "ssm_state": Row("ssm.state_size", "state_size mamba_d_state ssm_state_size"),
    "ssm_rank": Row("ssm.time_step_rank", "time_step_rank mamba_dt_rank"),
    "ssm_groups": Row("ssm.group_count", "n_groups mamba_n_groups"),
    "ssm_norms": Row("ssm.dt_b_c_rms", "ssm_norms"),
    "recurrent_blocks": Row("attention.recurrent_layers", "recurrent_blocks"),
    "attention_interval": Row("full_attention_interval", "attention_interval"),
    "v_heads_tiled": Row("ssm.v_head_reordered", ""),
    "rope_sections": Row("rope.dimension_sections mrope_sections rope.mrope_section", "rope_sections"),
    "multipliers": Row("", "multipliers"),
    "n_dense_blocks": Row("leading_dense_block_count", "first_k_dense_replace"),
    "expert_interval": Row("interleave_moe_layer_step", "moe_layer_interval interleave_moe_layer_step"),
    "n_nextn_blocks": Row("nextn_predict_layers", ""),
    "n_shared_experts": Row("expert_shared_count", "n_shared_experts"),
    "expert_ffn_size": Row("expert_feed_forward_length", "moe_intermediate_size"),
    "shared_ffn_size": Row(
        "expert_shared_feed_forward_length", "shared_expert_intermediate_size shared_intermediate_size"
    ),
    "expert_scale": Row("expert_weights_scale", "routed_scaling_factor"),
    "expert_norm": Row("expert_weights_norm", "norm_topk_prob"),
    "n_expert_groups": Row("expert_group_count", "n_group"),
    "n_expert_groups_used": Row("expert_group_used_count", "topk_group"),
    "latent_size": Row("moe_latent_size", "moe_latent_size"),
    "swiglu_limit": Row("swiglu_limit", "swiglu_limit"),
    "gating": Row("expert_gating_func", "gating"),
    "yarn_log_multiplier": Row("rope.scaling.yarn_log_multiplier", "yarn_log_multiplier"),
    "key_length_local": Row("attention.key_length_swa", "key_length_local"),
    "value_length_local": Row("attention.value_length_swa", "value_length_local"),
    "rope_dim_local": Row("rope.dimension_count_swa", "rope_dim_local"),
    "per_layer_size": Row("embedding_length_per_layer_input", "hidden_size_per_layer_input"),
    "n_shared_blocks": Row("attention.shared_kv_layers", "num_kv_shared_layers"),
    "n_streams": Row("altup.num_inputs", "altup_num_inputs"),
    "active_stream": Row("altup.active_idx", "altup_active_idx"),
    "sparsity": Row("activation_sparsity_scale", "sparsity"),
    "temperature_scale": Row("attention.temperature_scale", "attn_scale"),
    "cross_blocks": Row("attention.cross_attention_layers", "cross_attention_layers"),
    "temperature_length": Row("attention.temperature_length", "floor_scale"),
    "chunk": Row("attention.chunk_size", "attention_chunk_size"),
    "qk_norm": Row("use_qk_norm", "use_qk_norm"),
    "moe_interval": Row("moe_every_n_layers", "moe_every_n_layers"),
    "gate_last": Row("", "gate_last"),
    "pooling_type": Row("pooling_type", "pooling_type"),
    "parallel_residual": Row("use_parallel_residual", "use_parallel_residual"),
    "clip_qkv": Row("attention.clamp_kqv", "clip_qkv"),
    "tensor_layout": Row("tensor_data_layout", ""),
    "causal": Row("attention.causal", ""),
    "hidden_activation": Row("hidden_activation", "hidden_activation"),
    "n_decoder_blocks": Row("decoder_block_count", "num_decoder_layers", lambda found: found["n_blocks"]),
    "decoder_start": Row("decoder_start_token_id", "decoder_start_token_id"),
    "decoder_second": Row("forced_bos_token_id", "forced_bos_token_id"),
    "n_buckets": Row("attention.relative_buckets_count", "n_buckets"),
    "dense_2_in": Row("dense_2_feat_in", "dense_2_in"),
    "dense_2_out": Row("dense_2_feat_out", "dense_2_out"),
    "dense_3_in": Row("dense_3_feat_in", "dense_3_in"),
    "dense_3_out": Row("dense_3_feat_out", "dense_3_out"),
    "position_offset": Row("", "position_offset"),
    "output_labels": Row("classifier.output_labels", "output_labels"),
    "classifier_pooling": Row("classifier.pooling_type", "classifier_pooling"),
    "score_activation": Row("classifier.activation", "score_activation"),
}
"""Every field but `rope`, which several keys describe (see `puna.arch.rope`)."""

H = TypeVar("H", bound="Hparams")


@dataclass(frozen=True, kw_only=True)
class Hparams:
    """What every architecture has; its file adds the rest. `vocab_size` 0: as many as the embedding has rows."""

    GGUF_DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    """What a key after '<arch>.' means by its absence, where files of this architecture leave it out."""

    n_blocks: int
    hidden_size: int
    ffn_size: int
    n_heads: int
    context_length: int
    vocab_size: int = 0

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """From GGUF metadata, whose keys begin with what it calls the architecture; ModelError names a missing key."""
        spelled = metadata.get("general.architecture", arch)

        def find(key: str) -> Any:
            value = metadata.get(f"{spelled}.{key}")
            if key in ROPE_NUMBERS and value is not None and not (type(value) in (int, float) and 0 < value < INF):
                raise ModelError(f"{arch}: '{arch}.{key}' is {value!r}; it must be a number above 0")
            return cls.GGUF_DEFAULTS.get(key) if value is None else value

        return _read(cls, lambda row: row.gguf, find, lambda found: rope.from_gguf(find, _turned(found)), arch)

    @classmethod
    def from_hf(cls, arch: str, config: Config) -> Self:
        """From a Hugging Face config.json; ModelError names a missing key."""
        turned = lambda found: rope.from_hf(config, _turned(found))  # noqa: E731
        return _read(cls, lambda row: row.hf, config.get, turned, f"{arch}: config.json")

    def to_gguf(self, arch: str) -> dict[str, Any]:
        """The metadata that `from_gguf` reads. Integers, floats and bools keep their kind."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Rope):
                out |= rope.to_gguf(value)
            elif value is not None and (keys := FIELDS[field.name].gguf.split()):
                out[keys[0]] = value
        if out.get(rope.TRUNCATE) is self.GGUF_DEFAULTS.get(rope.TRUNCATE, True):
            del out[rope.TRUNCATE]
        if "attention.key_length" in out:
            out.setdefault("attention.value_length", out["attention.key_length"])
        return {f"{arch}.{key}": value for key, value in out.items()}


def _read(
    cls: type[H],
    keys_of: Callable[[Row], str],
    find: Callable[[str], Any],
    turned: Callable[[Mapping[str, Any]], Rope],
    what: str,
) -> H:
    found: dict[str, Any] = {}
    for field in sorted(fields(cls), key=lambda f: f.name == "rope"):
        if field.name == "rope":
            found["rope"] = _rope(what, turned(found), _turned(found))
            continue
        row = FIELDS[field.name]
        keys = keys_of(row).split()
        value = next((v for k in keys if (v := find(k)) is not None), None)
        if value is None and row.otherwise:
            value = row.otherwise(found)
        elif value is None and field.default is MISSING:
            raise ModelError(f"{what}: has no '{' or '.join(keys)}', which '{field.name}' needs")
        if value is not None:
            least = 1 if field.default is MISSING else 0
            found[field.name] = _checked(f"{what}: '{keys[0]}'" if keys else what, value, str(field.type), least)
    return cls(**found)


INF, ROPE_KEYS = float("inf"), ("dimension_count", "freq_base", "global.freq_base")
ROPE_NUMBERS = (*FIELDS["rope_theta_local"].gguf.split(), *(f"rope.{key}" for key in ROPE_KEYS))
"""GGUF keys that mean nothing at 0 or below; 0 is not the same as absence."""


def _rope(what: str, rope: Rope, head_dim: int) -> Rope:
    if rope.dim % 2 or not 0 < rope.dim <= head_dim:
        raise ModelError(f"{what}: the rope dimension is {rope.dim}; an even number from 2 to {head_dim} would work")
    if not 0 < rope.theta < INF:
        raise ModelError(f"{what}: the rope base is {rope.theta}; a number above 0 would work")
    return rope


KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def _checked(what: str, value: Any, annotation: str, least: int) -> Any:
    """The value in its field's type; a list of one repeated value is that value, unless the field has one per block."""
    if not isinstance(value, (str, bool, int, float)):
        if "tuple[" in annotation:
            return tuple(
                next(kind for kind in (bool, str, int, float) if kind.__name__ in annotation)(each) for each in value
            )
        distinct = sorted(set(value))
        if len(distinct) != 1:
            raise ModelError(f"{what}: differs from block to block ({distinct}), which is not supported here")
        value = distinct[0]
    kind = annotation.split(" |")[0]
    if kind not in KINDS:
        return value
    fits: bool = isinstance(value, KINDS[kind]) and (kind == "bool" or not isinstance(value, bool))
    if not fits:
        raise ModelError(f"{what}: {value!r} is not of type {kind}")
    if kind == "int" and value < least:
        raise ModelError(f"{what}: is {value}; at least {least} would work")
    return float(value) if kind == "float" else value
