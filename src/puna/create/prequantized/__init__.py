"""Checkpoints whose weights someone has packed already: read as the plain tensors that the packer's library defines.

`unpack` is the whole interface. Nothing large is read before a tensor's values are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
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
            raise _error(f"says {key!r}: {str(said.get(key))[:80]!r} of {name}", f"what works: {works}")
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
                    raise _error(f"is {str(said)[:80]!r}", "an object that names a quant_method works")
                return said
    return None


def _scheme_name(said: Config) -> str:
    method = said.get("quant_method")
    if method is None and {"bits", "group_size"} <= said.keys():
        return "mlx"
    if method is None and (said.get("load_in_4bit") or said.get("load_in_8bit")):
        return "bitsandbytes"
    if method not in SCHEMES:
        raise _error(f"says 'quant_method': {str(method)[:80]!r}", f"what works: {', '.join(SCHEMES)}")
    return str(method)


def _unpacked(scheme: Scheme, said: Config, config: Config, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Every tensor that is no part of another, in the order of the checkpoint."""
    plain: dict[str, Stored] = {}
    used: set[str] = set()
    for name in tensors:
        if (found := _find(scheme, name, tensors)) is None:
            continue
        layout, stem, names = found
        settings = scheme.settings(said, config, stem)
        weight = stem + layout.result
        if weight in plain or (weight in tensors and weight not in names.values()):
            raise ConversionError(f"unpacking '{weight}': it is there twice, packed and plain; one must go")
        plain[weight] = layout.unpack(Parts(weight, {role: tensors[n] for role, n in names.items()}, settings))
        used.update(names.values())
    drop = ACTIVATIONS if plain else ()
    order = {**tensors, **plain}
    return {
        n: plain.get(n) or tensor for n, tensor in order.items() if n in plain or not (n in used or n.endswith(drop))
    }


def _find(scheme: Scheme, name: str, tensors: Mapping[str, Stored]) -> tuple[Layout, str, dict[str, str]] | None:
    """The layout by which a tensor holds the codes of a weight, the weight's stem, and its tensors by role."""
    for layout in scheme.layouts:
        role, suffix = layout.codes
        if not name.endswith(suffix) or (layout.types and tensors[name].dtype.name not in layout.types):
            continue
        stem = name.removesuffix(suffix)
        names = {
            role: next((stem + end for end in ends if stem + end in tensors), "")
            for role, ends in layout.needed.items()
        }
        if not (layout.always or any(names.values())):
            continue
        if missing := [each for each, found in names.items() if not found]:
            wanted = " or ".join(f"'{stem}{end}'" for end in layout.needed[missing[0]])
            raise ConversionError(f"unpacking '{name}': there is no {wanted} beside it; fetch the checkpoint again")
        names |= {other: stem + end for other, end in layout.optional.items() if stem + end in tensors}
        return layout, stem, {role: name, **names}
    return None
