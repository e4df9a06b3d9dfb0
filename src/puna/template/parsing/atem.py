"""Glimmer's tool calls.

<atem:function_calls> <atem:invoke name="f"> <atem:parameter name="a">1</atem:parameter> </atem:invoke> </...>
"""

import re

from puna.template.message import ToolCall
from puna.template.parsing.tools import Tools

WRAPPER = ("<atem:function_calls>", "</atem:function_calls>")
_STRAY = "<|message|>"
_INVOKE = re.compile(
    r'<atem:invoke name="(.*?)(?:">|(?=<atem:parameter)|(?=</atem:invoke>))(.*)</atem:invoke>', re.DOTALL
)
_PARAMETER = re.compile(r'\s*<atem:parameter name="([^"]*)">(.*?)</atem:parameter>\s*', re.DOTALL)
ANYONE = "?"
"""The recipient of a message that names no tool; a call in it must be of one that was offered."""


def read_atem(recipient: str, body: str, tools: Tools) -> ToolCall:
    """The one call of a body; ValueError where it is none, or not of the tool that the message is for."""
    text = body.strip()
    match = _INVOKE.fullmatch(text.removeprefix(WRAPPER[0]).removesuffix(WRAPPER[1]).strip())
    if not (text.startswith(WRAPPER[0]) and text.endswith(WRAPPER[1]) and match):
        raise ValueError(f"{body!r:.80} is no call")
    name = _offered(match[1].replace(_STRAY, "").rstrip('">'), tools)
    if recipient != ANYONE and not (_offered(recipient, tools) == name or name.startswith(f"{recipient}.")):
        raise ValueError(f"a call of {name} in a message for {recipient}")
    if name not in tools:
        raise ValueError(f"there is no tool {name}")
    arguments, at = {}, 0
    while parameter := _PARAMETER.match(match[2], at):
        arguments[parameter[1]] = tools.typed(name, parameter[1], parameter[2])
        at = parameter.end()
    if match[2][at:].strip():
        raise ValueError(f"{match[2][at:]!r:.80} is no parameter")
    return ToolCall(name, arguments)


def _offered(name: str, tools: Tools) -> str:
    """A name, said twice with a dot between as Glimmer does, as the tool's."""
    namespace, _, rest = name.partition(".")
    return rest if name not in tools and namespace == rest else name
