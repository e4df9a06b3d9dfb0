"""Which architectures a checkpoint or a GGUF file is built like, by the names of its tensors. It reads no values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, get_args, get_type_hints

from puna import arch as archs
from puna.arch.base import Architecture, Blocks
from puna.arch.binding import tensor_name
from puna.errors import ConversionError, UnknownArchitecture
from puna.nn import Biased, Weight

SHOWN = 3
"""How many architectures, and tensors of each, a message names."""

PLACES = 4
"""How many values of the numbers after a block's are looked at: some names are told apart by them."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far tensors are those of an architecture; numbers in names are {} here.

    `claimed`: names it knows, each with what it becomes; `unclaimed`: those it does not; `missing`: GGUF names that it
    needs besides.
    """

    arch: Architecture
    claimed: Mapping[str, tuple[str, ...]]
    unclaimed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """1 where the structure is the same."""
        return len(self.claimed) / (len(self.claimed) + len(self.unclaimed) + len(self.missing) or 1)

    def __str__(self) -> str:
        if self.share == 1:
            return f"{self.arch.name} (the same tensors)"
        parts = [f"{len(self.unclaimed)} more: {_some(self.unclaimed)}"] if self.unclaimed else []
        parts += [f"{len(self.missing)} less: {_some(self.missing)}"] if self.missing else []
        return f"{self.arch.name} ({'; '.join(parts)})"


def pattern(name: str) -> str:
    """A tensor's name with {} for each number."""
    return ".".join("{}" if part.isdecimal() else part for part in name.split("."))


def like_names(names: Iterable[str]) -> list[Likeness]:
    """All architectures by their likeness to a checkpoint with tensors of these HF names, the likest first."""
    examples: dict[str, dict[tuple[str, ...], str]] = {}
    for name in names:
        alike = examples.setdefault(pattern(name), {})
        places = tuple(part for part in name.split(".") if part.isdecimal())[1:]
        if len(alike) < PLACES or places in alike:
            alike[places] = name
    return _sorted(_of_checkpoint(arch, examples) for arch in map(archs.find, archs.names()))


def like_tensors(names: Iterable[str]) -> list[Likeness]:
    """The same for a GGUF file with tensors of these names."""
    patterns = dict.fromkeys(map(pattern, names))
    return _sorted(_of_file(arch, patterns) for arch in map(archs.find, archs.names()))


def find_built_like(name: str, tensors: Iterable[str]) -> Architecture:
    """The architecture of a GGUF file; UnknownArchitecture names those that its tensors are most like."""
    try:
        return archs.find(name)
    except UnknownArchitecture as error:
        closest = said_of(like_tensors(tensors))
        advice = "a file for it can be added (docs/add-an-architecture.md)"
        raise UnknownArchitecture(f"{str(error).split(';')[0]}; {closest}; {advice}") from error


def said_of(found: list[Likeness]) -> str:
    """What a message says of the closest ones."""
    alike = [likeness for likeness in found[:SHOWN] if likeness.share >= max(0.5, found[0].share - 0.2)]
    if not alike:
        return f"no architecture is built like it ({found[0]} is the closest)"
    return f"closest by its tensors: {', '.join(map(str, alike))}"


def missing(arch: Architecture, have: Iterable[str]) -> tuple[str, ...]:
    """Patterns of GGUF names that an architecture needs beyond those that are there."""
    return tuple(_missing(arch.network, "", arch.blocks, set(have)))


def _sorted(found: Iterable[Likeness]) -> list[Likeness]:
    """Of equals, what most classes are an instance of comes first."""
    return sorted(found, key=lambda each: (-each.share, -len(each.arch.hf_classes), each.arch.name))


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def _of_checkpoint(arch: Architecture, examples: Mapping[str, Mapping[tuple[str, ...], str]]) -> Likeness:
    claimed: dict[str, tuple[str, ...]] = {}
    for name, alike in examples.items():
        try:
            found = [pattern(target.name) for example in alike.values() for target in arch.targets(example)]
            claimed[name] = tuple(dict.fromkeys(found))
        except ConversionError:
            continue
    left = tuple(name for name in examples if name not in claimed)
    named = [each for names in claimed.values() for each in names]
    return Likeness(arch, claimed, left, missing(arch, (*named, *(arch.renamed(each, None) for each in named))))


def _of_file(arch: Architecture, patterns: Iterable[str]) -> Likeness:
    declared = set(_declared(arch.network, "", arch.blocks))
    claimed = {name: (name,) for name in patterns if name in declared or name.startswith(arch.gguf_ignored or "?")}
    left = tuple(name for name in patterns if name not in claimed)
    return Likeness(arch, claimed, left, missing(arch, claimed))


def _groups(hint: Any) -> list[Any]:
    """The kinds of groups of weights that a hint allows."""
    kinds = [kind for kind in get_args(hint) or (hint,) if isinstance(kind, type) and is_dataclass(kind)]
    return [kind for kind in kinds if not issubclass(kind, Weight)]


def _declared(group: Any, prefix: str, blocks: Mapping[str, Blocks]) -> Iterator[str]:
    """Every tensor that a group of weights may have."""
    for attribute, hint in get_type_hints(group, include_extras=True).items():
        below = blocks[attribute].prefix + ".{}." if attribute in blocks else prefix
        if groups := _groups(hint):
            for each in groups:
                yield from _declared(each, below, blocks)
        else:
            name = tensor_name(prefix, attribute, hint)
            yield from (name, _bias(name))


def _missing(group: Any, prefix: str, blocks: Mapping[str, Blocks], have: set[str]) -> Iterator[str]:
    """Every tensor that a group needs and nobody has; of several kinds of a group, of the one that lacks least."""
    for attribute, hint in get_type_hints(group, include_extras=True).items():
        below = blocks[attribute].prefix + ".{}." if attribute in blocks else prefix
        if groups := _groups(hint):
            lacking = [list(_missing(each, below, blocks, have)) for each in groups]
            yield from [] if type(None) in get_args(hint) else min(lacking, key=len)
            continue
        kinds, name = _kinds(hint), tensor_name(prefix, attribute, hint)
        if type(None) not in kinds:
            yield from (each for each in (name, _bias(name))[: 1 + (Biased in kinds)] if each not in have)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types a hint allows, without what is annotated."""
    plain = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint
    return get_args(plain) or (plain,)


def _bias(name: str) -> str:
    return f"{name.removesuffix('.weight')}.bias"
