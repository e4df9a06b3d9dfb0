"""How a model is asked: options, system message, format and thinking, as `run` was told and as `/set` changes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.worker.requests import Chat, Generate

LEVELS = ("low", "medium", "high", "max")
IMAGE = re.compile(r"(?:\./|~/|/|\\)?(?:\\ |[^\s'\"])+\.(?:jpe?g|png|webp|wav)\b", re.IGNORECASE)
SWITCHES = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


@dataclass(slots=True)
class Asking:
    """`format` is "json" or a schema; `think` whether, or how much; `keep_alive` how long a server keeps the model."""

    options: dict[str, Any] = field(default_factory=dict)
    system: str | None = None
    format: Any = None
    think: bool | str | None = None
    keep_alive: str | None = None

    def chat(self, messages: Sequence[dict[str, Any]]) -> Chat:
        """The request for an answer to a conversation."""
        from puna.worker.requests import Chat

        system = [{"role": "system", "content": self.system}] if self.system else []
        return Chat(messages=[*system, *messages], **self._common())

    def text(self, text: str) -> Generate:
        """The request for what comes after a text as it is."""
        from puna.worker.requests import Generate

        return Generate(prompt=text, raw=True, system=self.system or "", **self._common())

    def _common(self) -> dict[str, Any]:
        said = {"options": self.options, "format": self.format, "think": self.think, "keep_alive": self.keep_alive}
        return said | {"options": dict(self.options)}


def parse_format(text: str) -> Any:
    """ "json", a JSON Schema as text, or the path of a file with one."""
    if text == "json":
        return text
    path = Path(text).expanduser()
    try:
        return json.loads(text if text.lstrip().startswith("{") else path.read_bytes())
    except OSError as error:
        raise RequestError(
            f"format {text!r}: {error.strerror}; json, a JSON Schema or a file with one works"
        ) from error
    except ValueError as error:
        raise RequestError(f"format: {error} in the JSON Schema; `json` asks for any JSON") from error


def parse_think(text: str) -> bool | str:
    """Whether to think, or how much: true, false, or a level."""
    word = text.strip().lower()
    if word in LEVELS:
        return word
    if word not in SWITCHES:
        raise RequestError(f"think is {text!r}; true, false, {', '.join(LEVELS)} would work")
    return SWITCHES[word]


def refuse_images(model: str, text: str) -> None:
    """Raises RequestError where a text names a picture or a recording that is on this machine: none would be seen."""
    for found in IMAGE.finditer(text):
        path = Path(found[0].replace("\\ ", " ")).expanduser()
        if path.is_file():
            raise RequestError(f"{path}: {model!r} reads text only, not what is in a picture; leave the file out")
