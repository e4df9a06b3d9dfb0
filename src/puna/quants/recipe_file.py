"""Recipes that users write: ordered rules in a small TOML file. It knows names and shapes, and no mixture's rules.

base = "Q4_K_M"                # the mix that decides what no rule is about; absent: it stays as it is
output = "Q8_0"                # short for a last rule about output.weight (token_embd.weight where that is both)
token_embd = "Q6_K"            # likewise

[[rule]]                       # the first rule that matches a tensor decides
match = 'ffn_(gate|up)'        # a regular expression found anywhere in the tensor's name
blocks = ["first 1/8", "5-7"]  # optional, a text or a list: "4", "5-7", "first 2", "last 1/8", "every 3"
type = "Q5_K"                  # or "keep": the type it has
fallback = "Q8_0"              # optional: the type for rows that are no whole number of the type's blocks
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from puna.dtypes import DTYPES
from puna.errors import ConversionError
from puna.quants.mixes import file_type

KEEP = "keep"
ENDS = ("output", "token_embd")

_KEYS = ("base", *ENDS, "rule")
_RULE_KEYS = ("match", "type", "blocks", "fallback")
_BLOCKS = re.compile(
    r"(?P<edge>first|last)\s+(?P<part>\d+(/[1-9]\d*)?)|every\s+(?P<step>[1-9]\d*)|(?P<a>\d+)(-(?P<b>\d+))?"
)

Where = Callable[[int, int], bool]
"""Whether block i of n is meant."""


@dataclass(frozen=True, slots=True)
class RecipeRule:
    """`type` for the tensors that `match` is found in; `where` says of which blocks (empty: of any, or of none).

    `name` is what errors call it.
    """

    name: str
    match: re.Pattern[str]
    type: str
    where: tuple[Where, ...] = ()
    fallback: str | None = None

    def wants(self, tensor: str, blocks: int) -> bool:
        """Whether the rule is about a tensor of a model of so many blocks."""
        found = re.match(r"blk\.(\d+)\.", tensor)
        if not self.match.search(tensor):
            return False
        return not self.where or (found is not None and any(meant(int(found[1]), blocks) for meant in self.where))

    def fitting(self, tensor: str, columns: int) -> str:
        """The type for rows of `columns`; ConversionError where neither it nor the fallback fits."""
        for chosen in filter(None, (self.type, self.fallback)):
            if chosen == KEEP or columns % DTYPES[chosen].block_size == 0:
                return chosen
        raise ConversionError(
            f"{self.name}: {tensor!r} has rows of {columns}, no multiple of the {DTYPES[self.type].block_size} that "
            f'{self.type} takes at once; fallback = "Q8_0" or "F16", if it fits, would work'
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe file: the mix it starts from, its rules in order, and `ends`, the rules for output and token_embd."""

    base: str | None
    rules: tuple[RecipeRule, ...]
    ends: Mapping[str, RecipeRule]

    def types(self, shapes: Mapping[str, tuple[int, ...]], present: Mapping[str, str], blocks: int) -> dict[str, str]:
        """The types that rules decide: `shapes` of the tensors that may be quantized, the types `present` of all.

        ConversionError for a rule that matches nothing, or a type that does not fit.
        """
        chosen: dict[str, str] = {}
        for rule in self.rules:
            free = [name for name in shapes if rule.wants(name, blocks) and name not in chosen]
            if not free:
                raise ConversionError(f"{rule.name} {_why_not(rule, shapes, present, blocks)}")
            chosen |= {name: _chosen(rule, name, shapes, present) for name in free}
        for end in ("token_embd", "output"):
            tensor = "token_embd.weight" if "output.weight" not in present else f"{end}.weight"
            if end in self.ends and tensor in shapes and tensor not in chosen:
                chosen[tensor] = _chosen(self.ends[end], tensor, shapes, present)
        return chosen


def load_recipe(path: str | PathLike[str]) -> Recipe:
    """Read a recipe; ConversionError names the line, and what is wrong."""
    name = f"recipe {Path(path).name}"
    try:
        text = Path(path).read_text("utf-8")
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConversionError(f"reading {name}: {error}; a TOML file is needed") from error
    _check_keys(found, _KEYS, name)
    if not any(found.values()):
        raise ConversionError(f'{name}: it is empty, nothing would change; base = "Q4_K_M" or a [[rule]] would work')
    rules = found.get("rule", [])
    if not isinstance(rules, list):
        raise ConversionError(f"{name}: 'rule' is not a list of tables; [[rule]] begins each")
    lines = [i for i, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    places = lines if len(lines) == len(rules) else [0] * len(rules)
    ends = {end: RecipeRule(f"{name}: {end}", re.compile(""), _type(found, end, name)) for end in ENDS if end in found}
    base = _base(found, name) if "base" in found else None
    return Recipe(
        base, tuple(_rule(r, i, line, name) for i, (r, line) in enumerate(zip(rules, places, strict=True), 1)), ends
    )


def _base(found: Mapping[str, Any], name: str) -> str:
    text = _text(found, "base", name)
    try:
        return file_type(text)
    except ConversionError as error:
        raise ConversionError(f"{name}: base: {error}") from error


def _chosen(rule: RecipeRule, name: str, shapes: Mapping[str, tuple[int, ...]], present: Mapping[str, str]) -> str:
    kind = rule.fitting(name, shapes[name][-1])
    return present[name] if kind == KEEP else kind


def _why_not(rule: RecipeRule, shapes: Mapping[str, Any], present: Mapping[str, str], blocks: int) -> str:
    matched = [name for name in present if rule.wants(name, blocks)]
    if any(name in shapes for name in matched):
        return "decides nothing: the rules before it take all that it matches; put it before them"
    if matched:
        return f"matches only tensors that keep their type, such as {matched[0]!r}; leave it out"
    if any(rule.match.search(name) for name in present):
        there = (
            f"{blocks} blocks, 0 to {blocks - 1}" if blocks > 1 else f"{blocks or 'no'} block{'' if blocks else 's'}"
        )
        return (
            f"matches no tensor in the blocks that it names: the model has {there}; 'last 2' or 'first 1/4' would work"
        )
    return "matches no tensor of the model; `puna convert --dry-run` lists their names"


def _rule(found: Any, number: int, line: int, where: str) -> RecipeRule:
    if not isinstance(found, dict):
        raise ConversionError(f"{where}: rule {number} is {found!r}; a table [[rule]] is needed")
    name = f"{where}: {f'line {line}: ' if line else ''}rule {number} ({found.get('match')!r})"
    _check_keys(found, _RULE_KEYS, name)
    try:
        match = re.compile(_text(found, "match", name))
    except re.error as error:
        raise ConversionError(f"{name}: 'match' is no regular expression: {error}") from error
    blocks = found.get("blocks", [])
    each = blocks if isinstance(blocks, list) else [blocks]
    return RecipeRule(
        name,
        match,
        _type(found, "type", name),
        tuple(_where(str(text), name) for text in each),
        _type(found, "fallback", name) if "fallback" in found else None,
    )


def _where(text: str, name: str) -> Where:
    """Which blocks a text such as "first 1/8" means."""
    found = _BLOCKS.fullmatch(text.strip())
    if not found:
        raise ConversionError(f"{name}: blocks {text!r} is not like 4, 5-7, first 2, last 1/8 or every 3")
    if found["step"]:
        step = int(found["step"])
        return lambda i, n: i % step == 0
    if found["a"]:
        first, last = int(found["a"]), int(found["b"] or found["a"])
        return lambda i, n: first <= i <= last
    part = Fraction(found["part"])
    share = "/" in found["part"]

    def count(n: int) -> int:
        return int(n * part) if share else int(part)

    if found["edge"] == "first":
        return lambda i, n: i < count(n)
    return lambda i, n: i >= n - count(n)


def _check_keys(found: Mapping[str, Any], known: tuple[str, ...], name: str) -> None:
    for key in found:
        if key not in known:
            raise ConversionError(f"{name}: the key {key!r} is unknown; {', '.join(known)} would work")


def _text(found: Mapping[str, Any], key: str, name: str) -> str:
    if not isinstance(found.get(key), str):
        raise ConversionError(f"{name}: {key!r} is {found.get(key)!r}; a text is needed")
    return str(found[key])


def _type(found: Mapping[str, Any], key: str, name: str) -> str:
    from puna.quants import CODECS

    text = _text(found, key, name)
    if text.lower() == KEEP:
        return KEEP
    if text.upper() not in CODECS or not CODECS[text.upper()].encodes:
        known = ", ".join((KEEP, *(name for name, codec in CODECS.items() if codec.encodes)))
        raise ConversionError(f"{name}: {key} {text!r} is unknown; {known} would work")
    return text.upper()
