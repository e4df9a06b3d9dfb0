"""What people and models say to each other: messages and tool calls, read from the dicts of Ollama's and OpenAI's APIs.

    {"role": "assistant", "content": "...", "thinking": "...", "images": [...],
     "tool_calls": [{"id": "...", "function": {"name": "...", "arguments": {...}}}]}

Knows no template and no wire protocol beyond these dicts.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from puna.errors import RequestError


@dataclass(slots=True)
class ToolCall:
    """A function that the model asks to have called, with the arguments it gives."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    index: int = 0

    @classmethod
    def from_dict(cls, call: Mapping[str, Any], index: int = 0) -> "ToolCall":
        """Reads `{"id", "function": {"name", "arguments", "index"}}`; `arguments` is an object or its JSON text."""
        function = call.get("function", call)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RequestError(f"message: tool call {call!r:.100} has no name; it needs function.name and .arguments")
        arguments = _parse_arguments(function.get("arguments"), function["name"])
        return cls(function["name"], arguments, str(call.get("id") or ""), int(function.get("index", index) or 0))

    def to_dict(self) -> dict[str, Any]:
        """The call in OpenAI's form, with the arguments as an object."""
        function = {"name": self.name, "arguments": self.arguments}
        return {**({"id": self.id} if self.id else {}), "type": "function", "function": function}


@dataclass(slots=True)
class Message:
    """One turn of a conversation; `tool_name` and `tool_call_id` belong to role `tool`."""

    role: str
    content: str = ""
    thinking: str = ""
    images: list[bytes] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""

    @classmethod
    def from_dict(cls, message: Mapping[str, Any]) -> "Message":
        """Reads a message in Ollama's form, or in OpenAI's with its content parts; raises `RequestError`."""
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise RequestError(f"message: role is {role!r}; it must be system, user, assistant or tool")
        content, images = _parse_content(message.get("content"))
        images += [_parse_image(image) for image in message.get("images") or []]
        calls = [ToolCall.from_dict(call, i) for i, call in enumerate(message.get("tool_calls") or [])]
        thinking = message.get("thinking") or message.get("reasoning_content") or message.get("reasoning") or ""
        name = message.get("tool_name") or (message.get("name") if role == "tool" else "") or ""
        return cls(role, content, thinking, images, calls, name, message.get("tool_call_id") or "")


def parse_messages(messages: Iterable[Message | Mapping[str, Any]]) -> list[Message]:
    """Messages from messages and dicts in any mix; raises `RequestError`, naming the number of the bad one."""
    parsed = []
    for number, message in enumerate(messages):
        if not isinstance(message, Message | Mapping):
            raise RequestError(f"message {number}: {message!r:.80} is not a message; pass dicts with role and content")
        parsed.append(message if isinstance(message, Message) else Message.from_dict(message))
    return parsed


def _parse_arguments(arguments: object, name: str) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as e:
            raise RequestError(f"message: arguments of {name} are not JSON ({e}); pass an object") from e
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise RequestError(f"message: arguments of {name} are {arguments!r:.80}; pass an object")
    return dict(arguments)


def _parse_content(content: object) -> tuple[str, list[bytes]]:
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise RequestError(f"message: content is {type(content).__name__}; it must be text or a list of parts")
    texts: list[str] = []
    images: list[bytes] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text", "output_text"):
            texts.append(str(part.get("text", "")))
        elif kind in ("image_url", "input_image"):
            url = part.get("image_url")
            images.append(_parse_image(url.get("url") if isinstance(url, Mapping) else url))
        else:
            raise RequestError(f"message: content part {part!r:.80} is unknown; parts are text and image_url")
    return "".join(texts), images


def _parse_image(image: object) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str):
        raise RequestError(f"message: image is {type(image).__name__}; it must be bytes or base64 text")
    if image.startswith(("http://", "https://")):
        raise RequestError("message: image is a web address; send the image itself as base64 (a data: address)")
    text = image.partition(",")[2] if image.startswith("data:") else image
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as e:
        raise RequestError(f"message: image is not base64 ({e}); encode the bytes of the file") from e
