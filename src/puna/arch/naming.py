"""HF tensor names to GGUF names, by an architecture's table. It knows no tensor.

    HF_NAMES     "model.layers.{}.mlp.up_proj": "blk.{}.ffn_up"                    a module: its .weight and .bias alike
                 "model.layers.{}.qkv_proj": ("blk.{}.attn_q", "blk.{}.attn_k")    a split: it becomes several
                 "model.layers.{}.experts.{}.w1": "blk.{}.ffn_gate_exps"           one {} more: a stack
    HF_TENSORS   "model.layers.{}.mixer.A_log": "blk.{}.ssm_a"                     whole names, for other endings
                 "model.layers.{}.x_r": Target("blk.{}.x.weight", 0)               a stack of tensors with other names

Each {} is a number between dots; the last one of a stack is the place on its new first axis. A name with the number of
a block goes before one with {}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Target(NamedTuple):
    """A tensor of the output by name; `place` on its first axis where several tensors are stacked, else None."""

    name: str
    place: int | None = None


Names = Mapping[str, str | Target | tuple[str | Target, ...]]


def targets(modules: Names, tensors: Names, hf_name: str) -> tuple[Target, ...]:
    """What an HF tensor becomes; () where the tables do not have it."""
    parts = hf_name.split(".")
    numbers = [part for part in parts if _is_number(part)]
    pattern = ".".join("{}" if _is_number(part) else part for part in parts)
    if len(numbers) > 1:  # all after the first may be a part of the name
        first = parts.index(numbers[0])
        literal = ".".join([*parts[:first], "{}", *parts[first + 1 :]])
        if literal in tensors or literal.rpartition(".")[0] in modules:
            pattern, numbers = literal, numbers[:1]
    if hf_name in tensors or hf_name.rpartition(".")[0] in modules:
        pattern, numbers = hf_name, []
    module, _, ending = pattern.rpartition(".")
    if pattern in tensors:
        found, suffix = tensors[pattern], ""
    elif ending in ("weight", "bias") and module in modules:
        found, suffix = modules[module], f".{ending}"
    else:
        return ()
    return tuple(_filled(each, suffix, numbers) for each in _each(found))


def sources(modules: Names, tensors: Names, name: str) -> list[str]:
    """The HF names that a GGUF tensor may be made of, by the tables; `*` stands for the place in a stack."""
    parts = name.split(".")
    numbers = [part for part in parts if _is_number(part)]
    pattern = ".".join("{}" if _is_number(part) else part for part in parts)
    module, _, ending = pattern.rpartition(".")
    found = [hf for hf, ours in tensors.items() if _names(ours, pattern)]
    found += [f"{hf}.{ending}" for hf, ours in modules.items() if _names(ours, module)]
    of_block = [hf for hf, ours in tensors.items() if numbers and _names(ours, name)]
    of_block += [f"{hf}.{ending}" for hf, ours in modules.items() if numbers and _names(ours, name.rpartition(".")[0])]
    return of_block + [each.format(*numbers, "*") for each in found if 0 <= each.count("{}") - len(numbers) <= 1]


def _names(ours: str | Target | tuple[str | Target, ...], pattern: str) -> bool:
    return any(pattern == (each if isinstance(each, str) else each.name) for each in _each(ours))


def _each(ours: str | Target | tuple[str | Target, ...]) -> tuple[str | Target, ...]:
    return (ours,) if isinstance(ours, (str, Target)) else ours


def _is_number(part: str) -> bool:
    return part.isdecimal() and part.isascii()


def _filled(ours: str | Target, suffix: str, numbers: list[str]) -> Target:
    if isinstance(ours, Target):
        return Target(ours.name.format(*numbers) + suffix, ours.place)
    pattern = ours + suffix
    stacked = pattern.count("{}") == len(numbers) - 1
    return Target(pattern.format(*numbers), int(numbers[-1]) if stacked else None)
