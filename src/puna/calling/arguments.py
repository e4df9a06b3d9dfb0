"""The rules of a tool's arguments in the style in which a format writes them, by the tool's schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from puna.calling.calls import function_of
from puna.calling.rules import Rules, Unheld
from puna.calling.spelled import Values
from puna.calling.tagged import Arguments
from puna.errors import RequestError
from puna.template.parsing.style import Tagged
from puna.template.parsing.tools import Tools

if TYPE_CHECKING:
    from puna.engine.constrain import Vocabulary
    from puna.template.parsing import Format


def argument_rules(number: int, tool: Mapping[str, Any], held: bool, format: Format, words: Vocabulary) -> str:
    """Rules for `arguments_<number>`: by the tool's schema, or any where nobody asked that it be kept to.

    RequestError that names the tool, and the keyword that the format cannot be held to.
    """
    from puna.engine.constrain import json_rule, refusal

    function = function_of(tool)
    name, schema = function.get("name"), function.get("parameters") or {}
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise RequestError(f"tools: the parameters of {name!r} are no schema of an object; type 'object' would work")
    asked = {"type": "object", **schema} if held or function.get("strict") else {"type": "object"}
    body = json_rule(asked)
    if reason := refusal(words, f"start: {body}"):
        raise RequestError(f"tools: the parameters of {name!r}: {reason}")
    if not format.style:
        return f"arguments_{number}: {body}"
    rules = Rules(number)
    try:
        body = _styled(asked, rules, tool, format, words)
    except (Unheld, RecursionError) as error:
        raise RequestError(f"tools: the parameters of {name!r}: {error}") from error
    lines = "\n".join([f"arguments_{number}: {body}", *rules.lines])
    if reason := refusal(words, f"start: arguments_{number}\n{lines}"):
        raise RequestError(f"tools: the parameters of {name!r}: {reason}")
    return lines


def _styled(schema: Mapping[str, Any], rules: Rules, tool: Mapping[str, Any], format: Format, words: Vocabulary) -> str:
    from puna.calling.schema import branches
    from puna.engine.constrain import closed

    root = closed(schema)
    (whole,) = branches(root, root)
    if isinstance(format.style, Tagged):
        name = str(function_of(tool).get("name"))
        return Arguments(format.style, root, words, rules, tools=Tools([tool]), name=name).arguments(whole)
    assert format.style is not None  # for mypy: the caller has seen to it
    return Values(format.style, root, words, rules).arguments(whole)
