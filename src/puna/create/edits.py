"""Changes of metadata that a user asked for: a value keeps the type its key has, else the type is inferred.

puna convert in.gguf out.gguf --set llama.context_length=8192 --set general.tags='["a", "b"]' --remove general.url
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from puna import arch as archs
from puna.arch.binding import graph_of, read_hparams
from puna.dtypes import Stored
from puna.errors import ConversionError, FormatError, PunaError
from puna.formats.gguf_values import Encoded, Typed, ValueType, encode_value

OURS = ("general.architecture", "general.alignment", "split.no", "split.count", "split.tensors.count")
"""Keys that say how the file is to be read, and so are not a user's to change."""


def edited(metadata: Mapping[str, Any], types: Mapping[str, str], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with `wanted` keys set, or taken out where the value is None.

    `types` are the types that keys have, as `Metadata.types` says them. ConversionError where a value does not fit.
    """
    result = dict(metadata)
    for key, value in wanted.items():
        if key in OURS:
            raise ConversionError(f"setting {key!r}: it says how the file is to be read and cannot be changed")
        if value is None:
            if result.pop(key, None) is None:
                raise ConversionError(f"removing {key!r}: there is no such key; `puna show --metadata` lists them")
            continue
        if isinstance(value, Text):
            value = value.read_as(types.get(key))
            if value == [] and key not in types:
                raise ConversionError(f"setting {key!r}: an empty list has no type; one with an element would work")
        try:
            typed = Typed(value, types[key]) if key in types else value
            encode_value(typed)
        except FormatError as error:
            kind = f"; it is {types[key]}" if key in types else ""
            raise ConversionError(f"setting {key!r}: {error}{kind}") from error
        result[key] = typed
    return result


def check_edits(
    wanted: Iterable[str], before: Mapping[str, Any], after: Mapping[str, Any], tensors: Mapping[str, Stored]
) -> None:
    """ConversionError where a model that could run cannot with the changed metadata, by its headers and tokenizer."""
    keys = list(wanted)
    checks = [_graph, _vocabulary] if any(key.startswith("tokenizer.") for key in keys) else [_graph]
    for check in checks:
        try:
            check(after, tensors)
        except PunaError as error:
            if _passes(check, before, tensors):
                raise ConversionError(f"setting or removing {', '.join(keys)}: it could not run: {error}") from error


def _passes(
    check: Callable[[Mapping[str, Any], Mapping[str, Stored]], object],
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Stored],
) -> bool:
    try:
        check(metadata, tensors)
    except PunaError:
        return False
    return True


def _graph(metadata: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    arch = archs.find(str(metadata.get("general.architecture")))
    graph_of(arch, read_hparams(arch, metadata, tensors), tensors)


def _vocabulary(metadata: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    from puna.tokenizer import load_tokenizer

    load_tokenizer(metadata)


def type_names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The type that each value of a plain mapping is written as, by name."""
    return {key: _type_name(encode_value(value)) for key, value in metadata.items()}


def _type_name(encoded: Encoded) -> str:
    if encoded.type is not ValueType.ARRAY:
        return encoded.type.name
    return f"ARRAY[{ValueType(int.from_bytes(encoded.data[:4], 'little')).name}]"


class Text(str):
    """A value as written on a command line."""

    __slots__ = ()

    def read_as(self, type_name: str | None) -> Any:
        """Itself for a key of text, else what it means as JSON, or itself where it is none."""
        if type_name == "STRING":
            return str(self)
        try:
            return json.loads(self)
        except ValueError:
            return str(self)


def parse_setting(text: str) -> tuple[str, Text]:
    """`KEY=VALUE` of a command line."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConversionError(f"setting {text!r}: KEY=VALUE would work")
    return key, Text(value)
