"""Which tensor of a model gets which type: a mixture of llama.cpp's, or a user's recipe on top of one.

It reads names, shapes and metadata only. The mixtures are tables in `mixes`, recipe files are drawn in `recipe_file`.
"""

import re
from collections.abc import Container, Mapping
from typing import Any

from puna.dtypes import DTYPES
from puna.errors import ConversionError
from puna.quants.mixes import (
    ARCH_RULES,
    CONDITIONS,
    COUNTED,
    FALLBACKS,
    FILE_TYPES,
    KEPT,
    KEPT_NAMES,
    LARGE,
    ONLY,
    RULES,
    Place,
    Rule,
    file_type,
    needs_importance,
    role_of,
)
from puna.quants.recipe_file import Recipe, load_recipe

__all__ = ["FILE_TYPES", "Recipe", "file_type", "is_kept", "load_recipe", "plan_types", "role_of", "type_of"]

Shapes = Mapping[str, tuple[tuple[int, ...], str]]


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
    there in all: i_attn_v, n_attn_v, i_ffn_down, n_ffn_down, and so on; `tied` is 1 where there is no output.weight.
    `base` replaces the file type's own type.
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
    chosen = next((r.type for r in rules if r.role in (role, "any") and _holds(r, ftype, place)), "") or base
    return _fitting(chosen, shape[-1])


def plan_types(
    tensors: Shapes,
    ftype: str | None,
    *,
    arch: str,
    metadata: Mapping[str, Any],
    imatrix: bool | Container[str] = False,
    recipe: Recipe | None = None,
) -> dict[str, str]:
    """Return the type of every tensor of a model, given name -> (row-major shape, type it has now).

    `ftype` is a file type; None for the recipe's own, and without that, what no rule is about keeps its type.
    `imatrix`: whether importance is known, or the names for which it is. ConversionError where a type needs importance
    that is not known, and for a rule of the recipe that matches nothing or does not fit.
    """
    ftype = ftype or (recipe.base if recipe else None)
    types = {name: source for name, (_, source) in tensors.items()}
    if ftype is not None:
        types |= _mixed(tensors, file_type(ftype), arch, metadata, imatrix is not False)
    if recipe is not None:
        present = {name: source for name, (_, source) in tensors.items()}
        free = {name: shape for name, (shape, _) in tensors.items() if not is_kept(name, shape)}
        types |= recipe.types(free, present, _blocks(tensors, arch, metadata))
    _check_importance({name: types[name] for name in tensors if types[name] != tensors[name][1]}, ftype, imatrix)
    return types


def _mixed(tensors: Shapes, ftype: str, arch: str, metadata: Mapping[str, Any], imatrix: bool) -> dict[str, str]:
    counters = {
        "n_attn_v": sum(COUNTED.get(role_of(name)) == "attn_v" for name in tensors),
        **{f"n_{part}": int(_field(metadata, arch, "block_count", 0)) for part in ("ffn_up", "ffn_gate", "ffn_down")},
        "tied": int("output.weight" not in tensors),
    }
    types = {}
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


def _check_importance(changed: Mapping[str, str], ftype: str | None, imatrix: bool | Container[str]) -> None:
    """Refuse types that are garbage without importance, before anything is written."""
    for name, chosen in changed.items():
        known = imatrix if isinstance(imatrix, bool) else name in imatrix
        if not known and needs_importance(name, chosen, ftype or ""):
            what = "there is no importance matrix" if imatrix is False else "the importance matrix does not have it"
            raise ConversionError(
                f"quantize: {name!r} as {chosen} needs importance, and {what}; "
                "one of `puna imatrix`, or a mix of more bits such as IQ3_S or Q2_K, would work"
            )


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
    counted, n = counters.get(f"i_{counter}", 0), counters.get(f"n_{counter}", 0)
    i, blocks = counted, int(_field(metadata, arch, "block_count", 0))
    experts = int(_field(metadata, arch, "expert_count", 0))
    if counter.startswith("ffn") and (experts > 1 or n == 0):
        # experts of one block are not next to each other, so the count says nothing
        i, n = _block(name, 0), blocks
    heads, kv_heads = (_first(_field(metadata, arch, f"attention.head_count{kv}", 0)) for kv in ("", "_kv"))
    return Place(
        i,
        n,
        counted,
        shape[-1],
        base,
        group=heads // kv_heads if kv_heads else 1,
        experts=experts,
        stacked=len(shape) > 2 and shape[-3] > 1,
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


def _blocks(tensors: Shapes, arch: str, metadata: Mapping[str, Any]) -> int:
    """How many blocks a model has: what it says, else what its names show."""
    return int(_field(metadata, arch, "block_count", 0)) or 1 + max((_block(name, -1) for name in tensors), default=-1)
