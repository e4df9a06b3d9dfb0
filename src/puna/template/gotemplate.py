"""Go templates as Ollama renders them, run by `gotpl` within limits on steps, text and depth.

    .Messages in the template   one render with .System .Messages .Tools .Think ...
    prompt and suffix given     one render with .Prompt .Suffix (fill in the middle)
    otherwise                   one render per turn of system, prompt, response; the last one is cut after .Response

A template with neither .Messages nor .Response gets `{{ .Response }}` appended. Knows no Jinja.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gotpl

from puna.errors import TemplateError
from puna.template import gosource, govalues
from puna.template.gofunctions import FUNCTIONS, MAX_TEXT, STEP, start_clock
from puna.template.message import Message

_BUDGET = gotpl.ExecutionBudget(
    max_output_chars=MAX_TEXT, max_iterations=1_000_000, max_template_depth=100, max_function_calls=1_000_000
)


class GoTemplate:
    """A compiled Go template; `fields` are the lower-case names that it reads."""

    kind = "go"

    def __init__(self, source: str) -> None:
        self.fields = gosource.fields(source)
        if not self.fields & {"messages", "response"}:
            source += "{{ .Response }}"
            self.fields |= {"response"}
        self._whole = _compile(source)
        self._source = source
        self._last: gotpl.Template | None = None

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
        """The prompt; `variables` (special tokens and the like) are of no use to Go templates and ignored."""
        values: dict[str, object] = {
            "Think": bool(think),
            "ThinkLevel": think if isinstance(think, str) else "",
            "IsThinkSet": think is not None,
            "Response": "",
        }
        if prompt and suffix:
            return _execute(self._whole, {**values, "Prompt": prompt, "Suffix": suffix})
        if prompt:
            messages = [*messages, Message("user", prompt)]
        system, turns = collate(messages)
        if "messages" not in self.fields:
            return self._render_turns(turns, values)
        seen = [govalues.message_value(turn) for turn in turns]
        listed = govalues.Tools(tools) if tools else None
        return _execute(self._whole, {**values, "System": system, "Messages": seen, "Tools": listed})

    def _render_turns(self, messages: Sequence[Message], values: dict[str, object]) -> str:
        if self._last is None:
            self._last = _compile(gosource.cut_after_response(self._source))
        *turns, last = _turns(messages)
        rendered = [_execute(self._whole, values | turn) for turn in turns]
        return "".join(rendered) + _execute(self._last, values | last)


def collate(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """All system texts joined, and the messages with neighbours of one role (but `tool`) made one."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role != "tool":
            before = joined[-1]
            content = f"{before.content}\n\n{message.content}"
            images, calls = before.images + message.images, before.tool_calls + message.tool_calls
            joined[-1] = replace(before, content=content, images=images, tool_calls=calls)
        else:
            joined.append(message)
    return "\n\n".join(m.content for m in messages if m.role == "system"), joined


def _turns(messages: Sequence[Message]) -> Iterator[dict[str, str]]:
    """System, Prompt and Response of each turn; a turn ends where one of its parts would come again or before."""
    order = {"system": "System", "user": "Prompt", "assistant": "Response"}
    turn = dict.fromkeys(order.values(), "")
    for message in messages:
        if message.role not in order:
            continue
        part = order[message.role]
        later = {"System": ("Prompt", "Response"), "Prompt": ("Response",), "Response": ()}[part]
        if any(turn[name] for name in later):
            yield turn
            turn = dict.fromkeys(order.values(), "")
        turn[part] = message.content
    yield turn


def _execute(template: gotpl.Template, values: dict[str, object]) -> str:
    start_clock()
    try:
        return template.render(values)
    except gotpl.TemplateError as e:
        raise _error(e) from e
    except RecursionError as e:
        raise TemplateError("template: nested too deeply to render; flatten it") from e


def _compile(source: str) -> gotpl.Template:
    policy = gotpl.SandboxPolicy(allow_functions=FUNCTIONS, allow_custom_lookup=True, default_budget=_BUDGET)
    metered = gosource.begin_definitions_with(source, STEP)
    try:
        return gotpl.Template(metered, name="", functions=FUNCTIONS, missing_key="zero", sandbox=policy)
    except gotpl.TemplateError as e:
        raise _error(e) from e
    except RecursionError as e:
        raise TemplateError("template: nested too deeply to parse; flatten it") from e


def _error(error: gotpl.TemplateError) -> TemplateError:
    line = getattr(error, "line", None)
    text = getattr(error, "message", None) or str(error).partition(": ")[2] or str(error)
    return TemplateError(f"template: line {line}: {text}" if line else f"template: {text}")
