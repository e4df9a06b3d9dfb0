"""llama.cpp's mixtures as tables: which role a tensor has, and which type a file type gives to each role.

The rules of a role are tried in order; the first whose file types and condition hold decides, else the file type's own
type is used. It reads no file; `recipe` applies the tables.

    file type  Q4_K_M   ->  base Q4_K
    role       ffn_down ->  "more bits" says yes for this block: Q6_K, no: Q4_K
    fallback   a row of 320 is no multiple of 256: Q6_K -> Q8_0, Q4_K -> Q5_0; of 100: F16
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from puna.dtypes import DTYPES
from puna.errors import ConversionError

FILE_TYPES = {
    **{name: name for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q6_K")},
    "Q2_K_S": "Q2_K",
    **{f"Q3_K_{size}": "Q3_K" for size in "SML"},
    **{f"{base}_{size}": base for base in ("Q4_K", "Q5_K") for size in "SM"},
    **{name: name for name in ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")},
    **{"IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S"},
    **{"TQ1_0": "TQ1_0", "TQ2_0": "TQ2_0", "Q1_0": "Q1_0", "MXFP4_MOE": "MXFP4", "NVFP4": "NVFP4"},
}
"""Every file type that can be asked for, and the type of most of its tensors."""

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}

FALLBACKS = {
    **{"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **{"TQ1_0": "Q4_0", "TQ2_0": "Q4_0"},
}
"""The type of similar size with blocks of 32, for rows that are no multiple of 256."""

NEED_IMPORTANCE = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"}
"""Types that are garbage without an importance matrix, except in the embedding and the output."""

KEPT = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "ffn_gate_tid2eid.weight"),
    *("altup", "laurel", "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight"),
    *("indexer.k_proj.weight", "indexer.q_proj.weight", "attn_rel_b.weight"),
    *(f"time_mix_{part}{i}.weight" for part in "wva" for i in range(3)),
    *("time_mix_g1.weight", "time_mix_g2.weight", "time_mix_first.weight"),
    *("time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight"),
    *(".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger"),
    *("a.rvq.codebook", "mm.a.code_embd"),
)
"""A tensor with one of these in its name keeps its type: small, or sensitive."""

KEPT_NAMES = ("position_embd.weight", "token_types.weight")

ROLES = (
    ("output", r"output\.weight"),
    ("token_embd", r"(per_layer_)?token_embd\.weight"),
    ("attn_qkv", r".*attn_qkv\.weight.*"),
    ("attn_v", r".*(attn_kv_b|attn_v)\.weight.*"),
    ("attn_k", r".*attn_k\.weight.*"),
    ("attn_q", r".*attn_q\.weight.*"),
    ("attn_output", r".*attn_output\.weight.*"),
    ("ffn_up", r".*ffn_up.*"),
    ("ffn_gate", r".*ffn_gate.*"),
    ("ffn_down", r".*ffn_down.*"),
)
"""Role of a tensor: the first whose pattern is the whole name. Every other tensor gets the base type."""

COUNTED = {"attn_qkv": "attn_v", "attn_v": "attn_v", "ffn_up": "ffn_up", "ffn_gate": "ffn_gate", "ffn_down": "ffn_down"}
"""Roles whose tensors are counted through the model, and the counter's name."""


class Place(NamedTuple):
    """What a rule may ask about a tensor: block i of n (n is 0 where unknown), heads per kv head and so on.

    `counted` tensors of the kind came before; it differs from i where there are experts.
    """

    i: int
    n: int
    counted: int
    columns: int
    base: str
    group: int
    experts: int
    stacked: bool
    large: bool
    imatrix: bool

    @property
    def more_bits(self) -> bool:
        """The first and last eighth of the blocks, and every third in between."""
        return self.n > 0 and (self.i < self.n // 8 or self.i >= 7 * self.n // 8 or (self.i - self.n // 8) % 3 == 2)


CONDITIONS: dict[str, Callable[[Place], bool]] = {
    "always": lambda p: True,
    "8 experts": lambda p: p.experts == 8,
    "8 experts, more bits": lambda p: p.experts == 8 and p.more_bits,
    "stacked": lambda p: p.stacked,
    "grouped": lambda p: p.group >= 4,
    "grouped or experts": lambda p: p.group >= 4 or p.experts >= 4,
    "70B": lambda p: p.large,
    "70B, grouped": lambda p: p.large and p.group >= 4,
    "more bits": lambda p: p.more_bits,
    "first 2": lambda p: p.i < 2,
    "first 4": lambda p: p.i < 4,
    "first eighth": lambda p: p.i < p.n // 8,
    "first eighth, counted": lambda p: p.counted < p.n // 8,
    "first sixteenth": lambda p: p.i < p.n // 16,
    "between the eighths": lambda p: p.n // 8 <= p.i < 7 * p.n // 8,
    "first eighth, imatrix": lambda p: p.i < p.n // 8 and p.imatrix,
    "first eighth, no imatrix": lambda p: p.i < p.n // 8 and not p.imatrix,
    "no imatrix": lambda p: not p.imatrix,
    "not counted": lambda p: p.n == 0,
    "row does not fit": lambda p: p.columns % DTYPES[p.base].block_size != 0,
    "base not Q8_0": lambda p: p.base != "Q8_0",
}


class Rule(NamedTuple):
    """`type` for tensors of `role` in files of these types where the condition holds; "any": of all."""

    role: str
    file_types: str
    condition: str
    type: str


_TINY = "IQ1_S IQ1_M IQ2_XXS IQ2_XS"
_SMALL = "IQ2_S IQ2_M"

ATTN_V = (
    (f"{_TINY} {_SMALL}", "grouped or experts", "Q4_K"),
    (_TINY, "always", "Q2_K"),
    (_SMALL, "always", "IQ3_S"),
    ("any", "8 experts", "Q8_0"),
    ("Q5_K_M Q4_K_M", "more bits", "Q6_K"),
    ("Q2_K Q3_K_S Q3_K_M Q4_K_S Q4_K_M IQ3_M", "70B", "Q5_K"),
    ("Q2_K_S IQ3_XXS IQ3_XS IQ3_S", "70B, grouped", "Q5_K"),
    ("Q2_K Q2_K_S IQ3_XXS IQ3_XS IQ3_S", "grouped", "Q4_K"),
    ("Q2_K", "always", "Q3_K"),
    ("IQ3_XXS", "no imatrix", "IQ3_S"),
    ("IQ3_M", "always", "Q4_K"),
    ("Q3_K_M", "first 2", "Q5_K"),
    ("Q3_K_M", "always", "Q4_K"),
    ("Q3_K_L", "always", "Q5_K"),
    ("IQ4_NL IQ4_XS", "grouped", "Q5_K"),
    ("Q4_K_S", "first 4", "Q5_K"),
)

RULES = (
    Rule("output", "MXFP4_MOE", "always", "Q8_0"),
    Rule("output", "any", "row does not fit", "Q8_0"),
    Rule("output", f"{_TINY} {_SMALL} IQ3_XXS", "always", "Q5_K"),
    Rule("output", "any", "base not Q8_0", "Q6_K"),
    Rule("any", "MXFP4_MOE", "stacked", "MXFP4"),
    Rule("any", "MXFP4_MOE", "always", "Q8_0"),
    Rule("token_embd", _TINY, "always", "Q2_K"),
    Rule("token_embd", f"{_SMALL} IQ3_XXS", "always", "IQ3_S"),
    Rule("token_embd", "TQ1_0 TQ2_0", "always", "Q4_K"),
    *(Rule("attn_v", *rule) for rule in ATTN_V),
    Rule("attn_qkv", "Q4_K_M", "not counted", "Q5_K"),
    Rule("attn_qkv", "Q5_K_M", "not counted", "Q6_K"),
    *(Rule("attn_qkv", *rule) for rule in ATTN_V),
    Rule("attn_k", f"{_TINY} {_SMALL}", "8 experts", "Q4_K"),
    Rule("attn_k", "any", "8 experts", "Q8_0"),
    Rule("attn_k", "IQ3_XS", "always", "IQ3_XXS"),
    Rule("attn_k", "IQ3_XXS", "always", "IQ2_S"),
    Rule("attn_q", "IQ3_XS", "always", "IQ3_XXS"),
    Rule("attn_q", "IQ3_XXS", "always", "IQ2_S"),
    Rule("attn_output", f"{_TINY} {_SMALL}", "8 experts", "Q5_K"),
    Rule("attn_output", "Q2_K Q3_K_S Q3_K_M Q4_K_S Q4_K_M", "8 experts", "Q5_K"),
    Rule("attn_output", "IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_NL IQ4_XS", "8 experts", "Q5_K"),
    Rule("attn_output", "any", "8 experts", ""),
    Rule("attn_output", "IQ1_S IQ1_M", "always", "IQ2_XXS"),
    Rule("attn_output", f"{_SMALL} IQ3_XXS", "always", "IQ3_S"),
    Rule("attn_output", "Q2_K", "always", "Q3_K"),
    Rule("attn_output", "Q3_K_M IQ3_M", "always", "Q4_K"),
    Rule("attn_output", "Q3_K_L", "always", "Q5_K"),
    Rule("ffn_up", "IQ3_XS", "between the eighths", "IQ3_XXS"),
    Rule("ffn_gate", "IQ3_XS", "between the eighths", "IQ3_XXS"),
    Rule("ffn_down", _TINY, "first eighth, counted", "Q2_K"),
    Rule("ffn_down", _SMALL, "first eighth, counted", "IQ3_S"),
    Rule("ffn_down", "Q2_K", "always", "Q3_K"),
    Rule("ffn_down", "Q2_K_S", "first eighth", "Q4_K"),
    Rule("ffn_down", "IQ3_XXS", "first eighth, no imatrix", "Q4_K"),
    Rule("ffn_down", "IQ3_XXS", "no imatrix", "Q3_K"),
    Rule("ffn_down", "IQ3_M", "first eighth", "Q4_K"),
    Rule("ffn_down", "IQ3_M", "8 experts, more bits", "Q4_K"),
    Rule("ffn_down", "Q3_K_M", "first sixteenth", "Q5_K"),
    Rule("ffn_down", "Q3_K_M", "always", "Q4_K"),
    Rule("ffn_down", "Q3_K_L", "always", "Q5_K"),
    Rule("ffn_down", "Q4_K_M Q5_K_M", "more bits", "Q6_K"),
    Rule("ffn_down", "Q4_K_S", "first eighth", "Q5_K"),
    Rule("ffn_down", "IQ4_NL IQ4_XS", "first eighth, no imatrix", "Q5_K"),
    Rule("ffn_down", "Q4_0", "first eighth, imatrix", "Q4_1"),
    Rule("ffn_down", "Q5_0", "first eighth, imatrix", "Q5_1"),
)
"""The mixtures, tried in order; an empty type is the base type."""

_QWEN35 = (
    Rule("attn_v", "Q4_K_S Q4_K_M", "always", "Q6_K"),
    Rule("ffn_down", "Q4_K_S Q4_K_M", "always", "Q6_K"),
    Rule("attn_qkv", "Q4_K_S Q4_K_M", "always", ""),
)
ARCH_RULES: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), _QWEN35),
    "falcon": (
        Rule("output", "any", "always", "Q8_0"),
        Rule("ffn_down", "Q3_K_M", "first sixteenth", "Q5_K"),
        Rule("ffn_down", "Q3_K_M", "more bits", "Q4_K"),
        Rule("ffn_down", "Q3_K_M", "always", ""),
        Rule("ffn_down", "Q3_K_L", "always", "Q4_K"),
        Rule("ffn_down", "Q4_K_M", "first sixteenth", "Q6_K"),
        Rule("ffn_down", "Q4_K_M", "more bits", "Q5_K"),
        Rule("ffn_down", "Q4_K_M Q4_K_S", "always", ""),
        Rule("attn_output", "Q3_K_L", "always", "Q4_K"),
        Rule("attn_output", "Q2_K Q3_K_M IQ3_XXS IQ3_M", "always", ""),
    ),
}
"""Rules of single architectures, tried before `RULES`."""

ONLY = {"laguna": re.compile(r"blk\.\d+\.ffn_(gate|up|down)_exps\.weight")}
"""Architectures of which only these tensors are quantized."""

LARGE = {"llama": 80, "qwen2": 80, "deci": 80, "olmoe": 80, "jais2": 68}
"""Block counts at which llama.cpp calls a model of the architecture 70B (llama: only with grouped heads)."""


def file_type(name: str) -> str:
    """Return the canonical file type for what a user wrote; ConversionError names those there are."""
    wanted = ALIASES.get(name.upper(), name.upper())
    if wanted not in FILE_TYPES:
        raise ConversionError(f"quantize: file type {name!r} is unknown; {', '.join(FILE_TYPES)} would work")
    return wanted


def role_of(name: str) -> str:
    """Return the role of a tensor, or "" where no rule is about it."""
    return next((role for role, pattern in ROLES if re.fullmatch(pattern, name)), "")


def is_kept(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor keeps its type whatever is asked for: vectors, norms, gates, other small or sensitive ones."""
    return (
        sum(size > 1 for size in shape[:-1]) == 0
        or not name.endswith("weight")
        or name in KEPT_NAMES
        or any(part in name for part in KEPT)
    )


def needs_importance(name: str, chosen: str, ftype: str) -> bool:
    """Whether a tensor of type `chosen` in a file of type `ftype` is not to be written without importance."""
    if role_of(name) in ("output", "token_embd"):
        return False
    return chosen in NEED_IMPORTANCE or (chosen == "Q2_K" and ftype == "Q2_K_S")
