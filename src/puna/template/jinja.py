"""Jinja chat templates, in the environment that Hugging Face transformers gives them, sandboxed and within limits.

The template sees `messages` (role, content, tool_calls ...), `tools`, `add_generation_prompt`, `enable_thinking` and
the special tokens that the caller passes, such as `bos_token`. Knows no Go templates; the limits are in `jinja_limits`.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import ext, meta, nodes, sandbox
from jinja2.parser import Parser

from puna.errors import TemplateError
from puna.template import jinja_limits as limits
from puna.template.message import Message

_MAX_SOURCE = 1_000_000
_UNUSED_FILTERS = ("urlize", "striptags", "xmlattr", "pprint", "random")  # slow on hostile text, or not repeatable


class JinjaTemplate:
    """A compiled Jinja template; `fields` are the lower-case names of the variables it reads."""

    kind = "jinja"

    def __init__(self, source: str) -> None:
        if len(source) > _MAX_SOURCE:
            raise TemplateError(f"template: {len(source)} characters are too many; at most {_MAX_SOURCE}")
        environment = _environment()
        limits.start_budget()
        try:
            tree = environment.parse(source)
            self.fields = frozenset(name.lower() for name in meta.find_undeclared_variables(tree))
            code = environment.compile(limits.Instrument().visit(tree))
        except jinja2.TemplateSyntaxError as e:
            raise TemplateError(f"template: line {e.lineno}: {e.message}") from e
        except RecursionError as e:
            raise TemplateError("template: nested too deeply to parse; flatten it") from e
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | str | None = None,
        prompt: str | None = None,
        suffix: str | None = None,
        add_generation_prompt: bool | None = True,
        **variables: object,
    ) -> str:
        """The prompt. With `add_generation_prompt=None` a last message of role assistant is left open."""
        if suffix:
            raise TemplateError("template: a Jinja chat template cannot fill in the middle; leave out suffix")
        if prompt:
            messages = [*messages, Message("user", prompt)]
        last = messages[-1] if messages else None
        continued = last is not None and last.role == "assistant" and bool(last.content) and not last.tool_calls
        generate = not continued if add_generation_prompt is None else add_generation_prompt
        text = self.run(
            {
                "messages": [_message(message) for message in messages],
                "tools": list(tools) if tools else None,
                "documents": None,
                "add_generation_prompt": generate,
                **_thinking(think),
                **variables,
            }
        )
        if last is None or not continued or add_generation_prompt is not None:
            return text
        return _cut_behind(text, last.content)

    def run(self, variables: dict[str, Any]) -> str:
        """The text that the template makes of just these variables; raises `TemplateError` with the line."""
        budget, pieces, size = limits.start_budget(), list[str](), 0
        try:
            for piece in self._template.generate(variables):
                budget.spend()
                size += len(piece)
                if size > limits.MAX_TEXT:
                    raise TemplateError(f"the prompt grows past {limits.MAX_TEXT} characters; repeat less")
                pieces.append(piece)
        except RecursionError as e:
            raise TemplateError("template: calls itself too deeply; a macro or a loop does not end") from e
        except Exception as e:
            line = _line(e)
            where = f"line {line}: " if line else ""
            raise TemplateError(f"template: {where}{str(e) or type(e).__name__}") from e
        return "".join(pieces)


class _Generation(ext.Extension):
    """`{% generation %} ... {% endgeneration %}` marks what the assistant says; it renders as its body."""

    tags = {"generation"}  # noqa: RUF012, jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Environment(sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    spend = staticmethod(limits.spend)
    checked = staticmethod(limits.checked)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        limits.check_operator(operator, left, right)
        return limits.checked(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)  # jinja2 wraps str.format
        if function is limits.spend or function is limits.checked:
            return function(*arguments)
        if isinstance(owner, str):
            arguments = tuple(limits.listed(argument) for argument in arguments)
            limits.check_call(function.__name__, owner, arguments, named)
        return limits.checked(super().call(context, function, *arguments, **named))

    @staticmethod
    def concatenate(*parts: Any) -> str:
        limits.written_size(parts)
        return "".join(map(str, parts))


def _environment() -> _Environment:
    made = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, ext.loopcontrols],
        finalize=_finalize,
        optimized=False,
    )
    made.filters["tojson"] = _to_json
    made.filters = {n: limits.guard_filter(n, f) for n, f in made.filters.items() if n not in _UNUSED_FILTERS}
    made.globals.pop("lipsum")
    made.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return made


@jinja2.pass_context
def _finalize(context: object, value: Any) -> Any:
    """Counts what is printed; with a context it is never called while compiling."""
    return limits.checked(value)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    limits.written_size(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    if len(layout) > 1000 or re.search(r"%[^a-zA-Z%]*\d", layout):
        raise TemplateError(f"strftime_now: layout {layout!r:.60} is too wide; one without widths works")
    return datetime.datetime.now().strftime(layout)


def _message(message: Message) -> dict[str, Any]:
    """The message as chat templates know it: keys without a value are left out, images are parts before the text."""
    text = {"type": "text", "text": message.content}
    content = [*({"type": "image"} for _ in message.images), text] if message.images else message.content
    optional = {
        "reasoning_content": message.thinking,
        "thinking": message.thinking,
        "tool_calls": [call.to_dict() for call in message.tool_calls],
        "name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return {"role": message.role, "content": content} | {k: v for k, v in optional.items() if v}


def _thinking(think: bool | str | None) -> dict[str, Any]:
    """The variables by which published templates turn thinking on and off."""
    if think is None:
        return {}
    level = {"reasoning_effort": think} if isinstance(think, str) else {}
    return {"enable_thinking": bool(think), "thinking": bool(think), **level}


def _cut_behind(text: str, content: str) -> str:
    """The text up to the end of the last message, which the model is to continue."""
    at = text.rfind(content.strip())
    if at < 0:
        raise TemplateError(
            "template: the last message is not in the prompt, so it cannot be continued; end with a user's message"
        )
    return text[: at + len(content.strip())] + content[len(content.rstrip()) :]


def _line(error: BaseException) -> int | None:
    """The line of the template in which the error arose."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
