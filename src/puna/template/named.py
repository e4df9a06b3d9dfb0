"""Prompts by the name that a Modelfile's RENDERER gives: one Jinja template for each family, in `renderers/`.

    renderers/<file>.jinja   sees messages, tools, functions, think and the variables that its name fixes
    renderers/_<part>.jinja  what several families share, put before the file

A message has role, content, thinking, images (a number), index, calls (name, arguments, id), tool_name, tool_call_id:
    tagged     its content with [img-0] ... in the place of its images, numbered through the conversation
    caller     the name of the call that a message of role tool answers, by its id or in its own words
    by_order   the same, by its place among the answers
Knows no model and no tokens.
"""

import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from puna.errors import TemplateError
from puna.template.message import Message, ToolCall

FOLDER = Path(__file__).parent / "renderers"
_LAGUNA = (
    "You are a helpful, conversationally-fluent assistant made by Poolside. "
    "You are here to be helpful to users through natural language conversations."
)
_OLMO = (
    "You are Olmo, a helpful AI assistant built by Ai2. Your date cutoff is December 2024, "
    "and your model weights are available at https://huggingface.co/allenai."
)
# name: the files, joined, and the variables that are fixed
_TABLE: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "cogito": (("cogito",), {}),
    "cohere": (("cohere",), {}),
    "deepseek3.1": (("deepseek3.1",), {}),
    "functiongemma": (("functiongemma",), {}),
    "gemma4": (("gemma4",), {"marks_silence": False}),
    "gemma4-large": (("gemma4",), {"marks_silence": True}),
    "gemma4-small": (("gemma4",), {"marks_silence": False}),
    "glimmer": (("glimmer",), {}),
    "glm-4.7": (("_glm-calls", "glm-4.7"), {}),
    "glm-ocr": (("_glm-calls", "glm-ocr"), {}),
    "laguna": (("laguna",), {"intro": _LAGUNA}),
    "lfm2": (("lfm2",), {"thinks": False}),
    "lfm2-thinking": (("lfm2",), {"thinks": True}),
    "nemotron-3-nano": (("_xml-calls", "nemotron-3-nano"), {"toggles": True}),
    "nemotron-3.5-nano": (("_xml-calls", "nemotron-3-nano"), {"toggles": False}),
    "olmo3": (("olmo3",), {"intro": "You are a helpful function-calling AI assistant."}),
    "olmo3-32b-think": (("olmo3-think",), {"intro": "You are a helpful AI assistant."}),
    "olmo3-think": (("olmo3-think",), {"intro": _OLMO}),
    "olmo3.1": (("olmo3",), {"intro": _OLMO}),
    "ornith": (("_xml-calls", "qwen3.5"), {"past_thoughts": True, "efforts": False}),
    "poolside-v1": (("poolside-v1",), {"intro": _LAGUNA}),
    "qwen3-coder": (("_xml-calls", "qwen3-coder"), {}),
    "qwen3-vl-instruct": (("qwen3-vl",), {"thinks": False}),
    "qwen3-vl-thinking": (("qwen3-vl",), {"thinks": True}),
    "qwen3.5": (("_xml-calls", "qwen3.5"), {"past_thoughts": False, "efforts": False}),
    "qwen3.8": (("_xml-calls", "qwen3.5"), {"past_thoughts": True, "efforts": True}),
}
RENDERERS = tuple(_TABLE)
_LARGE = 10_000_000_000  # Gemma 4 has sizes of up to 8 and from 12 billion on


class NamedRenderer:
    """A renderer of the table; `fields` are the lower-case names that its template reads."""

    kind = "renderer"

    def __init__(self, files: Iterable[str], fixed: Mapping[str, Any]) -> None:
        from puna.template.jinja import JinjaTemplate  # jinja2 is slow to import

        sources = ((FOLDER / f"{file}.jinja").read_text("utf-8") for file in files)
        self._template, self._fixed = JinjaTemplate("".join(sources)), dict(fixed)
        self.fields = self._template.fields

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | str | None = None,
        prompt: str | None = None,
        suffix: str | None = None,
        **variables: object,
    ) -> str:
        """The prompt, which begins as the model's own does, its first token included; `variables` are not looked at."""
        if suffix:
            raise TemplateError("renderer: a named renderer cannot fill in the middle; leave out suffix")
        if prompt:
            messages = [*messages, Message("user", prompt)]
        seen = {"messages": _messages(messages), "tools": list(tools or ()), "functions": _functions(tools or ())}
        return self._template.run({**seen, "think": think, "compact": (",", ":"), **self._fixed})


@functools.cache
def named_renderer(name: str) -> NamedRenderer:
    """The renderer that RENDERER names; an unknown name is a `TemplateError` that tells the closest."""
    if name not in _TABLE:
        close = difflib.get_close_matches(name, RENDERERS, 1)
        hint = f"closest: {close[0]}; " if close else ""
        raise TemplateError(f"renderer {name!r} is unknown; {hint}there are {', '.join(RENDERERS)}")
    return NamedRenderer(*_TABLE[name])


def sized(name: str, parameters: int) -> str:
    """The renderer for a model of so many parameters: `gemma4` alone stands for the small one or the large one."""
    return "gemma4-large" if name == "gemma4" and parameters >= _LARGE else name


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    seen, pictures = [], 0
    callers: dict[str, str] = {}
    waiting: list[ToolCall] = []
    for index, message in enumerate(messages):
        callers |= {call.id: call.name for call in reversed(message.tool_calls) if call.id}
        waiting = list(message.tool_calls) if message.role == "assistant" and message.tool_calls else waiting
        next_caller = waiting.pop(0).name if message.role == "tool" and waiting else ""
        seen.append(
            {
                "role": message.role,
                "content": message.content,
                "thinking": message.thinking,
                "images": len(message.images),
                "index": index,
                "calls": [{"name": c.name, "arguments": c.arguments, "id": c.id} for c in message.tool_calls],
                "tool_name": message.tool_name,
                "tool_call_id": message.tool_call_id,
                "tagged": _tagged(message, pictures),
                "caller": callers.get(message.tool_call_id) or message.tool_name,
                "by_order": next_caller,
            }
        )
        pictures += len(message.images)
    return seen


def _tagged(message: Message, first: int) -> str:
    """The content with [img-N] for each image: where it says [img], the rest before it; as it is if it has numbers."""
    content, before = message.content, ""
    if "[img-" in content:
        return content
    for number in range(first, first + len(message.images)):
        tag = f"[img-{number}]"
        if "[img]" in content:
            content = content.replace("[img]", tag, 1)
        else:
            before += tag
    space = " " if before and content and not content[0].isspace() else ""
    return before + space + content


def _functions(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each tool says of its function, with every key that templates ask for."""
    functions = []
    for number, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise TemplateError(f"tool {number}: {tool!r:.80} names no function; it needs function.name")
        functions.append({**function, "parameters": function.get("parameters") or {}})
    return functions
