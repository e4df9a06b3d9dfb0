"""Go template source as a light tree: text, actions and blocks. Enough to find fields, tags and where to cut.

    node   = Text | Action | Block
    Action = {{ pipeline }}          Block = {{ if|range|with|block|define pipeline }} list [{{ else }} list] {{ end }}

Does not evaluate anything; `gotemplate` does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from puna.errors import TemplateError

_ACTION = re.compile(
    r"""\{\{(?P<ltrim>-(?=\s))? (?P<body>
        \s*/\*.*?\*/\s* |
        (?: "(?:\\.|[^"\\\n])*" | `[^`]*` | '(?:\\.|[^'\\\n])*' | (?!-?\}\}|(?<=\s)-\}\}) [^"`'] )*
    ) (?P<rtrim>(?<=\s)-)? \}\}""",
    re.DOTALL | re.VERBOSE,
)
_QUOTED = re.compile(r""""(?:\\.|[^"\\\n])*"|`[^`]*`|'(?:\\.|[^'\\\n])*'""")
_DECLARATION = re.compile(r"^\s*\$\w*(?:\s*,\s*\$\w*)?\s*:?=")
_IDENTIFIER = re.compile(r"\$\w*(?:\.\w+)*|(?<![\w)$])(?:\.\w+)+|(?<=\))(?:\.\w+)+")
_BLOCKS = ("if", "range", "with", "block", "define")
_MAX_DEPTH = 100


@dataclass(slots=True)
class Text:
    """Literal text between actions, after trimming."""

    text: str


@dataclass(slots=True)
class Action:
    """`{{ pipeline }}`; `end` is the offset in the source just behind it."""

    pipeline: str
    end: int


@dataclass(slots=True)
class Block:
    """`{{ keyword pipeline }} ... {{ else }} ... {{ end }}`; an `else if` is a block in the second list."""

    keyword: str
    pipeline: str
    body: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


Node = Text | Action | Block


def parse_source(source: str) -> list[Node]:
    """The tree of a Go template; raises `TemplateError` with the line where the blocks do not match."""
    root: list[Node] = []
    current, outer = root, list[list[Node]]()
    opened: list[Block] = []
    for text, body, end in _pieces(source):
        if text:
            current.append(Text(text))
        keyword = _keyword(body)
        rest = body[len(keyword) :].strip()
        if keyword in _BLOCKS:
            if len(opened) == _MAX_DEPTH:
                raise TemplateError(
                    f"template: line {_line(source, end)}: more than {_MAX_DEPTH} blocks are open; flatten it"
                )
            block = Block(keyword, rest)
            current.append(block)
            outer.append(current)
            opened.append(block)
            current = block.body
        elif keyword in ("else", "end"):
            if not opened:
                raise TemplateError(f"template: line {_line(source, end)}: unexpected {{{{{body}}}}}; nothing is open")
            if keyword == "end":
                current, opened = outer.pop(), opened[:-1]
            elif inner := _keyword(rest):
                nested = Block(inner, rest[len(inner) :].strip())
                opened[-1].otherwise.append(nested)
                opened[-1], current = nested, nested.body
            else:
                current = opened[-1].otherwise
        elif body:
            current.append(Action(body, end))
    if opened:
        raise TemplateError(f"template: unexpected end; {{{{ {opened[-1].keyword} }}}} lacks its {{{{ end }}}}")
    return root


def fields(source: str) -> frozenset[str]:
    """Lower-case names of every field and variable that is read, such as `messages`, `role`, `$last`."""
    names: set[str] = set()
    for pipeline in pipelines(parse_source(source)):
        names.update(name.lower() for path in paths(pipeline) for name in path)
    return frozenset(names)


def paths(pipeline: str) -> list[tuple[str, ...]]:
    """The field paths of one pipeline: `eq $.Role "x"` gives `("$", "Role")`; declared variables are left out."""
    bare = _DECLARATION.sub("", _QUOTED.sub('""', pipeline))
    return [tuple(part for part in match.split(".") if part) for match in _IDENTIFIER.findall(bare)]


def pipelines(nodes: list[Node]) -> Iterator[str]:
    """Every pipeline of a tree, in order of the source."""
    for node in nodes:
        if isinstance(node, Action):
            yield node.pipeline
        elif isinstance(node, Block):
            yield node.pipeline
            yield from pipelines(node.body)
            yield from pipelines(node.otherwise)


def actions(source: str) -> Iterator[tuple[str, int]]:
    """What stands between each pair of braces, without comments, and the line where that ends, from 1."""
    return ((body, _line(source, end)) for _, body, end in _pieces(source) if body)


def cut_after_response(source: str) -> str:
    """The source up to and with the first action that reads `.Response`; blocks that are open there are closed."""
    depth = 0
    for _, body, end in _pieces(source):
        keyword = _keyword(body)
        depth += (keyword in _BLOCKS) - (keyword == "end")
        if keyword not in (*_BLOCKS, "else", "end") and any("Response" in path for path in paths(body)):
            return source[:end] + "{{ end }}" * depth
    return source


def begin_definitions_with(source: str, call: str) -> str:
    """The source with an action that calls `call` at the start of every `define` and `block`."""
    parts, at = [], 0
    for _, body, end in _pieces(source):
        if _keyword(body) in ("define", "block"):
            close = "-}}" if source.endswith(" -}}", at, end) else "}}"
            parts += [source[at:end], "{{ " + call + " " + close]
            at = end
    return "".join(parts) + source[at:]


def _pieces(source: str) -> Iterator[tuple[str, str, int]]:
    """Trimmed text before each action, the action without markers and comments, the offset behind it."""
    at, strip = 0, False
    while (start := source.find("{{", at)) >= 0:
        match = _ACTION.match(source, start)
        if match is None:
            raise TemplateError(f"template: line {_line(source, start)}: unclosed action; every {{{{ needs its }}}}")
        text = source[at:start]
        text = text.lstrip(" \t\r\n") if strip else text
        text = text.rstrip(" \t\r\n") if match["ltrim"] else text
        body = match["body"].strip()
        yield text, "" if body.startswith("/*") else body, match.end()
        at, strip = match.end(), bool(match["rtrim"])
    yield source[at:].lstrip(" \t\r\n") if strip else source[at:], "", len(source)


def _keyword(body: str) -> str:
    match = re.match(r"[a-z]\w*", body)
    return match[0] if match else ""


def _line(source: str, offset: int) -> int:
    return source.count("\n", 0, offset) + 1
