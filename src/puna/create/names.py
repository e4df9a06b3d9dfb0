"""Which tensors of a checkpoint each tensor of the output is made of. It reads names only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from puna.arch.base import Architecture
from puna.errors import ConversionError


class Parts(NamedTuple):
    """Names of the sources of one tensor; `stacked` along a new first axis in this order, or just one."""

    names: tuple[str, ...]
    stacked: bool = False


def named(arch: Architecture, config: Mapping[str, Any], sources: Iterable[str]) -> dict[str, Parts]:
    """What each GGUF tensor is made of, by its name, in the order of `sources`; a tied output is not needed.

    ConversionError for a source that nobody claims, for two that become one, and for gaps in what is stacked.
    """
    found: dict[str, dict[int | None, str]] = {}
    further, sources = tuple(further_blocks(config)), list(sources)
    for source in sources:
        if source.startswith(further) or arch.repeats(source, sources):
            continue
        for name, place in arch.targets(source):
            if name == "output.weight" and config.get("tie_word_embeddings") and not arch.output_by_file:
                continue
            places = found.setdefault(name, {})
            clash = places.get(place) or (next(iter(places.values())) if None in {place, *places} and places else None)
            if clash:
                raise ConversionError(f"converting {arch.name}: '{clash}' and '{source}' both become '{name}'")
            places[place] = source
    return {name: _parts(arch, name, places) for name, places in found.items()}


def further_blocks(config: Mapping[str, Any]) -> Iterator[str]:
    """What names of tensors begin with that only predict further tokens: blocks after those of the model."""
    count = config.get("num_nextn_predict_layers") or config.get("num_mtp_layers") or 0
    first = config.get("num_hidden_layers") or 0
    return (f"model.layers.{i}." for i in range(first, first + min(int(count), 64)))


def _parts(arch: Architecture, name: str, places: Mapping[int | None, str]) -> Parts:
    if None in places:
        return Parts((places[None],))
    numbers = sorted(place for place in places if place is not None)
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers)) if numbers[-1] < 1 << 20 else [-1]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
        raise ConversionError(
            f"converting {arch.name}: '{name}' is stacked from {len(numbers)} tensors like '{places[numbers[0]]}'; "
            f"missing: {shown}; fetch the checkpoint again"
        )
    return Parts(tuple(places[number] for number in numbers), stacked=True)
