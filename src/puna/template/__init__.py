"""Prompts from messages: Jinja chat templates, Ollama's Go templates, and the templates and renderers that have a name.

    render(text, messages) -> prompt        compile_template(text) -> Template, with .kind .fields .render
                                            named_renderer(name) -> Template

Whether a text is Go or Jinja is seen from the text. `jinja2` and `gotpl` are imported when a template of theirs is
compiled. Knows no tokens and no models.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from puna.template.builtin import builtin_parameters, builtin_template
from puna.template.match import match_template
from puna.template.message import Message, ToolCall, parse_messages
from puna.template.named import RENDERERS, named_renderer
from puna.template.tags import Tags, infer_tags

__all__ = [
    "RENDERERS",
    "Message",
    "Tags",
    "Template",
    "ToolCall",
    "builtin_parameters",
    "builtin_template",
    "compile_template",
    "infer_tags",
    "match_template",
    "named_renderer",
    "parse_messages",
    "render",
    "template_fields",
    "template_kind",
]

_GO = re.compile(
    r"\{\{-?\s*\(*(?:/\*|[.$]|(?:if|range|with|else|end|define|block|template|break|continue)\b(?!\s*[=(|\[]|\.)"
    r"|(?:and|or|not|eq|ne|lt|le|gt|ge|len|index|slice|print|printf|println|json|html|js|urlquery)\s+[.$\"]"
    r"|currentDate\b|yesterdayDate\b)"
)
_JINJA = re.compile(r"""\{[%#]|\{\{(?:[^}'"]|"[^"]*"){0,200}?['A-Za-z_]""")


class Template(Protocol):
    """A compiled template: `kind` is `go`, `jinja` or `renderer`, `fields` are the lower-case names it reads."""

    kind: str
    fields: frozenset[str]

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | str | None = None,
        prompt: str | None = None,
        suffix: str | None = None,
        **variables: Any,
    ) -> str:
        """The exact prompt; raises `TemplateError`."""


def template_kind(text: str) -> str:
    """`go` or `jinja`, whichever the text is written in; text without any marks counts as Go."""
    if _GO.search(text):
        return "go"
    return "jinja" if _JINJA.search(text) else "go"


@functools.lru_cache(maxsize=64)
def compile_template(text: str) -> Template:
    """The compiled template, kept for the next call; raises `TemplateError` with the line if it does not parse."""
    if template_kind(text) == "jinja":
        from puna.template.jinja import JinjaTemplate

        return JinjaTemplate(text)
    from puna.template.gotemplate import GoTemplate

    return GoTemplate(text)


def render(
    template: str | Template,
    messages: Iterable[Message | Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    think: bool | str | None = None,
    prompt: str | None = None,
    suffix: str | None = None,
    system: str | None = None,
    bos_token: str = "",
    eos_token: str = "",
    **variables: Any,
) -> str:
    """The exact prompt that a template (its text, or compiled) makes of messages, or of a bare prompt and a suffix.

    `system` is put first unless the messages begin with one. `think` is True, False or a level such as "low"; None
    leaves it to the template. Further `variables` reach Jinja templates. Raises `TemplateError`, `RequestError`.
    """
    parsed = parse_messages(messages)
    if system and not (parsed and parsed[0].role == "system"):
        parsed.insert(0, Message("system", system))
    compiled = compile_template(template) if isinstance(template, str) else template
    tokens = {"bos_token": bos_token, "eos_token": eos_token}
    return compiled.render(parsed, tools=tools, think=think, prompt=prompt, suffix=suffix, **tokens, **variables)


def template_fields(text: str) -> frozenset[str]:
    """The lower-case names that a template reads, `response` included where Go templates get it appended."""
    return compile_template(text).fields
