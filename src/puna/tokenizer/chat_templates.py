"""The `tokenizer.chat_template*` keys of a checkpoint, from every place that templates are kept in.

    tokenizer_config.json or chat_template.json: a string, or a list of {name, template}
    chat_template.jinja, additional_chat_templates/NAME.jinja

It does not know what templates mean.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from puna.errors import FormatError
from puna.tokenizer.sources import read_text

Template = tuple[str, str, str]
"""Name, text and origin."""


def chat_templates(
    files: Mapping[str, Path], settings: Mapping[str, Any], older: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys, and where each came from; `settings` is tokenizer_config.json, `older` chat_template.json."""
    keys: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, text, origin in _found(files, settings, older):
        key = "tokenizer.chat_template" + ("" if name == "default" else f".{name}")
        keys[key], origins[key] = text, origin
    others = sorted(key.removeprefix("tokenizer.chat_template.") for key in keys.keys() - {"tokenizer.chat_template"})
    if others:
        keys["tokenizer.chat_templates"], origins["tokenizer.chat_templates"] = others, "the names of the templates"
    return keys, origins


def _found(files: Mapping[str, Path], settings: Mapping[str, Any], older: Mapping[str, Any]) -> Iterator[Template]:
    for file, source in (("tokenizer_config.json", settings), ("chat_template.json", older)):
        template = source.get("chat_template")
        origin = f"{file}: chat_template"
        if isinstance(template, str):
            yield "default", template, origin
        for entry in template if isinstance(template, list) else ():
            if not (isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("name", "template"))):
                raise FormatError(f"reading {origin}: {str(entry)[:80]!r} has no texts 'name' and 'template'")
            name = "".join(c if c.isascii() and c.isalnum() else "_" for c in entry["name"])
            yield name, entry["template"], origin
    for name, path in sorted(files.items()):
        if name == "chat_template.jinja":
            yield "default", read_text(path), name
        elif name.startswith("additional_chat_templates/"):
            yield path.stem, read_text(path), name
