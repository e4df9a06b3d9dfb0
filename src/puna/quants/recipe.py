"""Which tensor of a model gets which type: llama.cpp's mixtures as a table. It reads names, shapes and metadata only.

A tensor belongs to a role (by its name). The rules of a role are tried in order; the first whose file types and
condition hold decides, else the file type's own type is used. A row that does not fit the blocks falls back.

    file type  Q4_K_M   ->  base Q4_K
    role       ffn_down ->  "more bits" says yes for this block: Q6_K, no: Q4_K
    fallback   a row of 320 is no multiple of 256: Q6_K -> Q8_0, Q4_K -> Q5_0; of 100: F16
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from puna.dtypes import DTYPES
from puna.errors import ConversionError

FILE_TYPES = {
    **{name: name for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q6_K")},
    **{f"Q3_K_{size}": "Q3_K" for size in "SML"},
    **{f"{base}_{size}": base for base in ("Q4_K", "Q5_K") for size in "SM"},
    **{name: name for name in ("IQ4_NL", "IQ4_XS")},
}
"""Every file type that can be asked for, and the type of most of its tensors."""

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

FALLBACKS = {
    **{"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
    "IQ4_XS": "IQ4_NL",
}
"""The type of similar size with blocks of 32, for rows that are no multiple of 256."""

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
    ("attn_output", r".*attn_output\.weight.*"),
    ("ffn_down", r".*ffn_down.*"),
)
"""Role of a tensor: the first whose pattern is the whole name. Every other tensor gets the base type."""

COUNTED = {"attn_qkv": "attn_v", "attn_v": "attn_v", "ffn_down": "ffn_down"}
"""Roles whose tensors are counted through the model, and the counter's name."""


class Place(NamedTuple):
    """What a rule may ask about a tensor: block i of n (n is 0 where unknown), heads per kv head and so on."""

    i: int
    n: int
    columns: int
    base: str
    group: int
    experts: int
    large: bool
    imatrix: bool

    @property
    def more_bits(self) -> bool:
        """The first and last eighth of the blocks, and every third in between."""
        return self.n > 0 and (self.i < self.n // 8 or self.i >= 7 * self.n // 8 or (self.i - self.n // 8) % 3 == 2)


CONDITIONS: dict[str, Callable[[Place], bool]] = {
    "always": lambda p: True,
    "8 experts": lambda p: p.experts == 8,
    "grouped": lambda p: p.group >= 4,
    "70B": lambda p: p.large,
    "more bits": lambda p: p.more_bits,
    "first 2": lambda p: p.i < 2,
    "first 4": lambda p: p.i < 4,
    "first eighth": lambda p: p.i < p.n // 8,
    "first sixteenth": lambda p: p.i < p.n // 16,
    "first eighth, imatrix": lambda p: p.i < p.n // 8 and p.imatrix,
    "first eighth, no imatrix": lambda p: p.i < p.n // 8 and not p.imatrix,
    "not counted": lambda p: p.n == 0,
    "row does not fit": lambda p: p.columns % DTYPES[p.base].block_size != 0,
    "base not Q8_0": lambda p: p.base != "Q8_0",
}


class Rule(NamedTuple):
    """`type` for tensors of `role` in files of these types ("any": all block types) where the condition holds."""

    role: str
    file_types: str
    condition: str
    type: str


ATTN_V = (
    ("Q5_K_M Q4_K_M", "more bits", "Q6_K"),
    ("Q2_K Q3_K_S Q3_K_M Q4_K_S Q4_K_M", "70B", "Q5_K"),
    ("Q2_K", "grouped", "Q4_K"),
    ("Q2_K", "always", "Q3_K"),
    ("Q3_K_M", "first 2", "Q5_K"),
    ("Q3_K_M", "always", "Q4_K"),
    ("Q3_K_L", "always", "Q5_K"),
    ("IQ4_NL IQ4_XS", "grouped", "Q5_K"),
    ("Q4_K_S", "first 4", "Q5_K"),
)

RULES = (
    Rule("output", "any", "row does not fit", "Q8_0"),
    Rule("output", "any", "base not Q8_0", "Q6_K"),
    Rule("attn_v", "any", "8 experts", "Q8_0"),
    *(Rule("attn_v", *rule) for rule in ATTN_V),
    Rule("attn_qkv", "any", "8 experts", "Q8_0"),
    Rule("attn_qkv", "Q4_K_M", "not counted", "Q5_K"),
    Rule("attn_qkv", "Q5_K_M", "not counted", "Q6_K"),
    *(Rule("attn_qkv", *rule) for rule in ATTN_V),
    Rule("attn_k", "any", "8 experts", "Q8_0"),
    Rule("attn_output", "Q2_K Q3_K_S Q3_K_M Q4_K_S Q4_K_M IQ4_NL IQ4_XS", "8 experts", "Q5_K"),
    Rule("attn_output", "any", "8 experts", ""),
    Rule("attn_output", "Q2_K", "always", "Q3_K"),
    Rule("attn_output", "Q3_K_M", "always", "Q4_K"),
    Rule("attn_output", "Q3_K_L", "always", "Q5_K"),
    Rule("ffn_down", "Q2_K", "always", "Q3_K"),
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
        Rule("attn_output", "any", "always", ""),
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


def type_of(
    name: str,
    shape: tuple[int, ...],
    ftype: str,
    *,
    arch: str,
    metadata: Mapping[str, Any],
    source: str,
    counters: Mapping[str, int],
    base: str | None = None,
    imatrix: bool = False,
) -> str:
    """Return the type of a tensor that may be quantized (see `is_kept`; `plan_types` asks both).

    `shape` is row-major, `source` the type it has now. `counters` say how many tensors of a kind came before and are
    there in all: i_attn_v, n_attn_v, i_ffn_down, n_ffn_down; `tied` is 1 where there is no output.weight. `base`
    replaces the file type's own type.
    """
    ftype = file_type(ftype)
    base = base or FILE_TYPES[ftype]
    if arch in ONLY and not ONLY[arch].fullmatch(name):
        return source
    if not DTYPES[base].quantized:
        return base
    role = role_of(name)
    if role == "token_embd" and counters.get("tied"):
        role = "output"
    place = _place(name, shape, role, base, arch, metadata, counters, imatrix)
    rules = (*ARCH_RULES.get(arch, ()), *RULES)
    chosen = next((r.type for r in rules if r.role == role and _holds(r, ftype, place)), "") or base
    return _fitting(chosen, shape[-1])


def plan_types(
    tensors: Mapping[str, tuple[tuple[int, ...], str]],
    ftype: str,
    *,
    arch: str,
    metadata: Mapping[str, Any],
    imatrix: bool = False,
) -> dict[str, str]:
    """Return the type of every tensor of a model, given name -> (row-major shape, type it has now)."""
    counters = {
        "n_attn_v": sum(COUNTED.get(role_of(name)) == "attn_v" for name in tensors),
        "n_ffn_down": int(_field(metadata, arch, "block_count", 0)),
        "tied": int("output.weight" not in tensors),
    }
    types = {name: source for name, (_, source) in tensors.items()}
    for name in sorted(tensors, key=lambda name: (_block(name, -1), name)):
        shape, source = tensors[name]
        if is_kept(name, shape):
            continue
        types[name] = type_of(
            name, shape, ftype, arch=arch, metadata=metadata, source=source, counters=counters, imatrix=imatrix
        )
        if counter := COUNTED.get(role_of(name)):
            counters[f"i_{counter}"] = counters.get(f"i_{counter}", 0) + 1
    return types


def _holds(rule: Rule, ftype: str, place: Place) -> bool:
    return (rule.file_types == "any" or ftype in rule.file_types.split()) and CONDITIONS[rule.condition](place)


def _fitting(chosen: str, columns: int) -> str:
    if columns % DTYPES[chosen].block_size == 0:
        return chosen
    smaller = FALLBACKS.get(chosen, "F16")
    return smaller if columns % DTYPES[smaller].block_size == 0 else "F16"


def _place(
    name: str,
    shape: tuple[int, ...],
    role: str,
    base: str,
    arch: str,
    metadata: Mapping[str, Any],
    counters: Mapping[str, int],
    imatrix: bool,
) -> Place:
    counter = COUNTED.get(role, "")
    i, n = counters.get(f"i_{counter}", 0), counters.get(f"n_{counter}", 0)
    blocks = int(_field(metadata, arch, "block_count", 0))
    experts = int(_field(metadata, arch, "expert_count", 0))
    if role == "ffn_down" and (experts > 1 or n == 0):
        # experts of one block are not next to each other, so the count says nothing
        i, n = _block(name, 0), blocks
    heads, kv_heads = (_first(_field(metadata, arch, f"attention.head_count{kv}", 0)) for kv in ("", "_kv"))
    return Place(
        i,
        n,
        shape[-1],
        base,
        group=heads // kv_heads if kv_heads else 1,
        experts=experts,
        large=blocks == LARGE.get(arch, -1) and (arch != "llama" or heads != kv_heads),
        imatrix=imatrix,
    )


def _field(metadata: Mapping[str, Any], arch: str, key: str, absent: Any) -> Any:
    return metadata.get(f"{arch}.{key}", metadata.get(key, absent))


def _first(value: Any) -> int:
    """Return a head count, of the first block where there is one per block."""
    return int(value if isinstance(value, int) else value[0])


def _block(name: str, absent: int) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else absent
