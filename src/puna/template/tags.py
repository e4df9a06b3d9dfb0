"""Which tags a model writes around its thinking and before its tool calls, read off a Go template.

    {{ range .Messages }} ... {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}    thinking: <think> </think>
    {{ if .ToolCalls }}<tool_call>{{ range .ToolCalls }}{"name": ...                        tool:     <tool_call>

Evaluates nothing.
"""

from collections.abc import Iterator
from typing import TypedDict

from puna.template.gosource import Action, Block, Node, Text, parse_source, paths


class Tags(TypedDict):
    """`thinking` is the opening and closing tag, both empty if there is none; `tool` is `{` where no tag is known."""

    thinking: tuple[str, str]
    tool: str


def infer_tags(source: str) -> Tags:
    """The tags of a Go template; raises `TemplateError` if it does not parse."""
    nodes = parse_source(source)
    opening = closing = ""
    for siblings in _around_thinking(nodes):
        opening = siblings[0].text.strip() if isinstance(siblings[0], Text) else opening
        closing = siblings[-1].text.strip() if isinstance(siblings[-1], Text) else closing
    branch = next(_tool_branches(nodes), None)
    text = _first_text(branch.body) if branch else None
    tag = text.replace("\r\n", "\n").partition("{")[0].strip() if text else ""
    return {"thinking": (opening, closing), "tool": tag or "{"}


def _around_thinking(nodes: list[Node], in_messages: bool = False) -> Iterator[list[Node]]:
    """Every list with a node whose own pipeline reads `.Thinking`, inside a range over `.Messages`."""
    for node in nodes:
        if isinstance(node, Text):
            continue
        first = [path[0] for path in paths(node.pipeline)]
        if in_messages and "Thinking" in first:
            yield nodes
        if isinstance(node, Block):
            inside = "Messages" in first if node.keyword == "range" else in_messages
            yield from _around_thinking(node.body, inside)
            yield from _around_thinking(node.otherwise, inside)


def _tool_branches(nodes: list[Node]) -> Iterator[Block]:
    for node in nodes:
        if isinstance(node, Block):
            if node.keyword == "if" and any("ToolCalls" in path for path in paths(_top_level(node.pipeline))):
                yield node
            yield from _tool_branches(node.body)
            yield from _tool_branches(node.otherwise)


def _top_level(pipeline: str) -> str:
    """The pipeline without what stands in parentheses."""
    depth, kept = 0, []
    for character in pipeline:
        depth += character == "("
        kept.append(character if depth == 0 else " ")
        depth -= character == ")"
    return "".join(kept)


def _first_text(nodes: list[Node]) -> str | None:
    """The first text that is not blank, unless an action or an empty block comes before it."""
    for node in nodes:
        if isinstance(node, Text):
            if node.text.strip():
                return node.text
            continue
        if isinstance(node, Action):
            return None
        return _first_text(node.body) or _first_text(node.otherwise)
    return None
