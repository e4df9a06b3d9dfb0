"""What a model is and can do, in the words of Ollama's API: from its headers and what its Modelfile added.

`puna show` in a conversation, the server's `/api/show` and both ways of asking a model rest on it; it computes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from puna.opened import Opened


def facts(opened: Opened, *, verbose: bool = False) -> dict[str, Any]:
    """What is known of a model, without what is empty; with `verbose`, every tensor and the metadata's long lists."""
    known: dict[str, Any] = {
        "license": "\n".join(opened.licenses),
        "modelfile": str(opened.modelfile()),
        "parameters": "\n".join(_parameters(opened.params)),
        "template": opened.template or str(opened.metadata.get("tokenizer.chat_template") or ""),
        "system": opened.system or "",
        "renderer": opened.renderer,
        "parser": opened.parser,
        "messages": list(opened.messages),
        "model_info": {"general.parameter_count": _count(opened)} | _values(opened.metadata, verbose),
        "capabilities": capabilities(opened),
        "requires": opened.requires,
    }
    if verbose:
        known["tensors"] = [
            {"name": name, "type": tensor.dtype.name, "shape": list(reversed(tensor.shape))}
            for name, tensor in opened.tensors.items()
        ]
    return {key: value for key, value in known.items() if value not in (None, "", [])}


def _parameters(params: Mapping[str, Any]) -> Iterator[str]:
    for name, value in params.items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{name:<30} {json.dumps(item, ensure_ascii=False)}"


def _count(opened: Opened) -> int:
    """How many numbers its tensors have."""
    return sum(prod(tensor.shape) for tensor in opened.tensors.values())


def _values(metadata: Mapping[str, Any], verbose: bool) -> dict[str, Any]:
    """Metadata as JSON has it; of lists nothing, unless they are asked for: not even a look, for they are long."""
    kinds: Mapping[str, str] = getattr(metadata, "types", {})
    lists = () if verbose else [key for key, kind in kinds.items() if kind.startswith("ARRAY")]
    return {key: None if key in lists else _value(metadata[key], verbose) for key in metadata}


def _value(value: Any, verbose: bool) -> Any:
    """A metadata value as JSON has it; of lists nothing, unless they are asked for."""
    if not verbose and not isinstance(value, (str, int, float)) and getattr(value, "ndim", 1) > 0:
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    return value if isinstance(value, (str, int, float)) else [_value(item, verbose) for item in value]


def capabilities(model: Opened) -> list[str]:
    """What a model can do, in Ollama's words: as its renderer or template, its parser and its headers say."""
    arch = model.metadata.get("general.architecture")
    if f"{arch}.pooling_type" in model.metadata:
        return ["embedding"]
    found = ["completion"]
    text = model.template or str(model.metadata.get("tokenizer.chat_template") or "")
    fields = _fields(model, text)
    if "tools" in fields:
        found.append("tools")
    if "suffix" in fields or fills_in(model.metadata):
        found.append("insert")
    if any(kind == "projector" for kind, _ in model.parts):
        found.append("vision")
    if thinks(model, text, fields):
        found.append("thinking")
    return found


def fills_in(metadata: Mapping[str, Any]) -> bool:
    """Whether a vocabulary has tokens for filling in the middle of a text."""
    keys = (("fim_pre", "prefix"), ("fim_suf", "suffix"), ("fim_mid", "middle"))
    return all(any(f"tokenizer.ggml.{key}_token_id" in metadata for key in either) for either in keys)


def _fields(model: Opened, template: str) -> frozenset[str]:
    """The names that a model's renderer reads, or else its template."""
    from puna.template import RENDERERS, named_renderer, template_fields

    if model.renderer:
        return named_renderer(model.renderer).fields if model.renderer in RENDERERS else frozenset()
    return template_fields(template) if template else frozenset()


def thinks(model: Opened, template: str, fields: frozenset[str]) -> bool:
    """Whether a model thinks before it answers: by its parser or renderer, or as its template treats thinking."""
    from puna.template.parsing import PARSERS, find_format

    for name in (model.parser, model.renderer):
        if name in PARSERS:
            return find_format(name).thinking is not None
    return bool({"thinking", "think", "enable_thinking", "reasoning_content"} & fields) or "<think>" in template
