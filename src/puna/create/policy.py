"""The type a tensor of a checkpoint is written in, as one table. What quantizing does to it then is `quants.recipe`.

name                    shape     type    why
any                     vector    F32     small, and read by every token
*.bias                  any       F32     added, never multiplied by a matrix
*.ffn_gate_inp.weight   any       F32     a router: the choice of experts turns on small differences
...
any                     any       what was asked for, else the source's own 16- or 32-bit float, else F32
"""

from __future__ import annotations

import re
from typing import NamedTuple

from puna.dtypes import BF16, F16, F32, DType
from puna.errors import ConversionError


class Rule(NamedTuple):
    """Names that match `pattern` whole, with at most `dimensions`, stay F32."""

    pattern: str
    dimensions: int
    why: str


KEPT_F32 = (
    Rule(r".*", 1, "vectors stay F32: small, and read for every token"),
    Rule(r".*\.bias", 9, "biases stay F32: they are added, not multiplied"),
    Rule(r".*_norm\.weight", 9, "norms stay F32"),
    Rule(r".*\.(ffn_gate_inp|ffn_gate_inp_shexp)\.weight", 9, "routers stay F32: small differences choose experts"),
    Rule(r"(v\.)?position_embd\.weight|token_types\.weight", 9, "position and type tables stay F32: small"),
    Rule(r"v\.(pre_tile|post_tile|tile)_position_embd\.weight|v\.positional_embedding_vlm", 9, "position tables"),
    Rule(r".*\.attn_rel_b\.weight", 9, "biases of scores stay F32: they are added, not multiplied"),
    Rule(r"s\.position_embd.*|.*rel_pos_[hw]", 9, "position tables stay F32"),
    Rule(r".*\.(shortconv\.conv|ssm_conv1d)\.weight|.*\.conv_dw\..*", 9, "short convolutions stay F32"),
    Rule(r".*\.time_mix_(w1|w2|lerp_fused)\.weight", 9, "rates of forgetting stay F32, and what mixes rows: small"),
    Rule(r".*\.altup_(correct|predict)_coef\.weight", 9, "mixing of streams stays F32: small"),
    Rule(r"a\.(feature_extractor|conv1d|subsampling)\..*", 9, "convolutions of audio stay F32"),
    Rule(r".*\.(ssm_a|ssm_d|ssm_dt|ssm_x_norm)", 9, "recurrences stay F32: errors in them add up"),
)
"""Tried in order; a tensor that none is about becomes what was asked for."""

ASKED = "dtype: what was asked for"
OWN = "dtype auto: the source's own type"
PACKED = "dtype auto: blocks that hold the packed codes and scales as they are"
WIDER = "dtype auto: F32 holds what the source's type does"


def policy(name: str, shape: tuple[int, ...], source: DType, wanted: DType | None) -> tuple[DType, str]:
    """The type of a tensor of the output, and the rule that decided; `wanted` None: as it is.

    ConversionError for a source that is no plain floating-point type.
    """
    if not source.is_float:
        raise ConversionError(f"converting '{name}': its type is {source}; floating-point types work")
    kept = next((r for r in KEPT_F32 if len(shape) <= r.dimensions and re.fullmatch(r.pattern, name)), None)
    if kept:
        return F32, kept.why
    if wanted:
        return wanted, ASKED
    return (source, OWN) if source in (F32, F16, BF16) else (F32, WIDER)
