"""Checkpoints whose weights someone has packed already: read as the plain tensors that the packer's library defines.

`unpack` is the whole interface. Nothing large is read before a tensor's values are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from puna.create.prequantized.schemes import ACTIVATIONS, SCHEMES, UNSAID, Config, Layout, Scheme
from puna.create.prequantized.unpacked import Parts, Unpacked
from puna.dtypes import Stored
from puna.errors import ConversionError

__all__ = ["Unpacked", "plain_config", "unpack"]

SAID_BY = ("quantization_config", "compression_config", "quantization")
"""Keys of config.json that tell of packed weights; the last is MLX's."""


def unpack(config: Config, tensors: Mapping[str, Stored]) -> Mapping[str, Stored]:
    """Give a checkpoint's tensors with each packed weight, and what belongs to it, as one plain lazy tensor.

    `config` is config.json; of ModelOpt's older checkpoints, with hf_quant_config.json's as its quantization_config.
    Tensors that are not packed pass through. ConversionError names a scheme, a key, or a tensor that does not fit or is
    missing.
    """
    said = _said(config)
    if said is None:
        return _unpacked(UNSAID, {}, config, tensors)
    name = _scheme_name(said)
    scheme = SCHEMES[name]
    for key, known in scheme.requires.items():
        if said.get(key) not in known:
            works = ", ".join("leaving it out" if value is None else repr(value) for value in known)
            raise _error(f"says {key!r}: {repr(said.get(key))[:80]} of {name}", f"what works: {works}")
    plain = _unpacked(scheme, said, config, tensors)
    if not any(isinstance(tensor, Unpacked) for tensor in plain.values()):
        raise _error(f"says {name}, but no tensor is packed so", "without it, the tensors are taken as they are")
    return plain


def plain_config(config: Config) -> dict[str, Any]:
    """The config without what it says of packed weights."""
    plain = {key: value for key, value in config.items() if key not in SAID_BY}
    if isinstance(plain.get("text_config"), dict):
        plain["text_config"] = plain_config(plain["text_config"])
    return plain


def _error(wrong: str, works: str) -> ConversionError:
    return ConversionError(f"unpacking: 'quantization_config' {wrong}; {works}")


def _said(config: Config) -> Config | None:
    """What the config says of packed weights, of the whole model or of its text model."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in SAID_BY:
            if (said := part.get(key)) is not None:
                if not isinstance(said, dict):
                    raise _error(f"is {repr(said)[:80]}", "an object that names a quant_method works")
                return said
    return None


def _scheme_name(said: Config) -> str:
    method = said.get("quant_method")
    if method is None and {"bits", "group_size"} <= said.keys():
        return "mlx"
    if method is None and (said.get("load_in_4bit") or said.get("load_in_8bit")):
        return "bitsandbytes"
    if not isinstance(method, str) or method not in SCHEMES:
        raise _error(f"says 'quant_method': {repr(method)[:80]}", f"what works: {', '.join(SCHEMES)}")
    return method


def _unpacked(scheme: Scheme, said: Config, config: Config, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Every tensor that is no part of another, in the order of the checkpoint."""
    found = [each for name in tensors if (each := _find(scheme, name, tensors))]
    used = {name for each in found if each.missing is None for name in each.parts.values()}
    found = [each for each in found if each.missing is None or each.codes not in used]  # a scale may look like codes
    plain: dict[str, Unpacked] = {}
    for each in found:
        if each.missing is not None:
            wrong = f"there is no {each.missing} beside it"
            raise ConversionError(f"unpacking '{each.codes}': {wrong}; fetch the checkpoint again")
        if each.weight in plain or (each.weight in tensors and each.weight != each.codes):
            raise ConversionError(f"unpacking '{each.weight}': it is there twice, packed and plain; one must go")
        parts = {role: tensors[name] for role, name in each.parts.items()}
        plain[each.weight] = each.layout.unpack(Parts(each.weight, parts, scheme.settings(said, config, each.stem)))
    needless = ACTIVATIONS if plain else ()
    weight_of = {each.codes: each.weight for each in found}
    left = [name for name in tensors if name in weight_of or not (name in used or name.endswith(needless))]
    return {(name := weight_of.get(each, each)): plain.get(name) or tensors[each] for each in left}


@dataclass(frozen=True, slots=True)
class _Found:
    """A packed weight by the names of its tensors; `missing` is what it lacks."""

    layout: Layout
    stem: str
    codes: str
    parts: Mapping[str, str]
    missing: str | None

    @property
    def weight(self) -> str:
        """What the plain weight is called."""
        return self.stem + self.layout.result


def _find(scheme: Scheme, name: str, tensors: Mapping[str, Stored]) -> _Found | None:
    """The weight whose codes a tensor holds, by the first layout that fits it."""
    for layout in scheme.layouts:
        role, suffix = layout.codes
        if not name.endswith(suffix) or (layout.types and tensors[name].dtype.name not in layout.types):
            continue
        stem = name.removesuffix(suffix)
        parts, missing = {role: name}, [ends for ends in layout.needed.values() if not _first(stem, ends, tensors)]
        if len(missing) == len(layout.needed) and not layout.always:
            continue
        for other, ends in {**layout.needed, **{key: (end,) for key, end in layout.optional.items()}}.items():
            if there := _first(stem, ends, tensors):
                parts[other] = there
        lacks = " or ".join(f"'{stem}{end}'" for end in missing[0]) if missing else None
        return _Found(layout, stem, name, parts, lacks)
    return None


def _first(stem: str, ends: tuple[str, ...], tensors: Mapping[str, Stored]) -> str | None:
    return next((stem + end for end in ends if stem + end in tensors), None)
