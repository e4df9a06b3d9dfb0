"""How a model writes what it thinks, says and calls: a row of the table of formats. It reads nothing itself.

thinking        <think> ... </think>            sections    <tool_call> ... </tool_call>, and how its body is read
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from puna.template.message import ToolCall
from puna.template.parsing.style import Style
from puna.template.parsing.tools import Tools

Reader = Callable[[str, Tools], list[ToolCall | str]]
"""A body to the calls in it, and what of its text is none; ValueError where it cannot be read."""

Ending = Callable[[str, bool], int | None]
"""Where a body without a closing tag ends, None where more is needed, or NEVER; True if nothing more comes."""

NEVER = -1
"""The ending of a body that is none after all."""


@dataclass(frozen=True, slots=True)
class Section:
    """Markup that holds tool calls, from `open` to `close` or to where `end` says.

    `inside`: whether a closing tag after this much of the body is part of it. `last`: what a body must end with to
    count although the answer ends before the closing tag. `bare`: the opening is part of the body. `offered`: what it
    calls must be tools that were offered, else it is text, as it is for bare ones. `first`: only where an answer
    begins, or after a call. `after`: characters that mean nothing behind it. `muted`: what is in it is no part of the
    answer.
    """

    open: str
    close: str
    read: Reader
    end: Ending | None = None
    inside: Callable[[str], bool] | None = None
    last: str = ""
    bare: bool = False
    offered: bool = False
    first: bool = False
    after: str = ""
    muted: bool = False

    @property
    def calls(self) -> bool:
        """Whether its opening tag begins a call whatever stands around it."""
        return not (self.bare or self.offered or self.muted)


@dataclass(frozen=True, slots=True)
class Format:
    """A row: the tags of thinking, the sections of tool calls, and what is done with the space around them."""

    name: str
    thinking: tuple[str, str] | None = None
    """The tags around what a model thinks."""
    opens: tuple[bool | None, ...] = ()
    """With which `think` an answer begins inside thinking, because the prompt ends with the opening tag."""
    leads: bool = True
    """Space, and an opening tag said once more, are left out where an answer begins inside thinking."""
    label: str = ""
    """What may stand behind the opening tag of thinking and is not thought."""
    anywhere: bool = False
    """Whether an opening tag of thinking counts behind text too, not only where an answer begins."""
    stray: bool = False
    """Whether a closing tag of thinking is left out where an answer begins."""
    resumes: bool = True
    """Whether a last message that has only thinking is thought on; else an answer to any begins as text."""
    reopens: bool = False
    """Whether thinking goes on, without its opening tag, behind the message of a tool."""
    hides: tuple[bool | None, ...] = ()
    """With which `think` thinking is left out."""
    sections: tuple[Section, ...] = ()
    silent: tuple[str, ...] = ()
    """Markup that says nothing."""
    marks: tuple[str, ...] = ()
    """Other tags that calls are made of."""
    trims: bool = True
    """Whether space around calls is left out."""
    ends: bool = True
    """Whether space at the end of thinking is left out."""
    strips: str = ""
    """Outer space of the whole answer that is left out: `l` before it, `r` behind it."""
    writes: tuple[str, str] | None = None
    """How a call is written: before and behind its arguments, with `NAME` for its name."""
    again: str = ""
    """What stands between the arguments of two calls of one answer, with `NAME` for the second's; none if unsaid."""
    style: Style | None = None
    """How arguments are written; as one JSON object if unsaid."""
    spells: Callable[[Tools], Mapping[str, str]] | None = None
    """What names are written for tools, with the tools' own; as they are if unsaid."""
    heads: str = ""
    """What is written before the content of an answer."""
    rules: str = ""
    """Of a Lark grammar: how an answer leads to its `@answer`; unsaid, as the tags of thinking have it."""

    def call_around(self, name: str) -> tuple[str, str] | None:
        """The text of a call before and behind its arguments; None where it is not known how calls are written."""
        return (self.writes[0].replace("NAME", name), self.writes[1]) if self.writes else None

    @property
    def call_begins(self) -> tuple[str, ...]:
        """The texts that begin a tool call; none where one is begun by no tag."""
        begun = self.writes[0].partition("NAME")[0] if self.writes and not self.sections else ""
        return (begun,) if begun else tuple(section.open for section in self.sections if section.calls)

    @property
    def thinking_ends(self) -> str:
        """The text that ends thinking; empty where the format knows none."""
        return self.thinking[1] if self.thinking else ""

    @property
    def markup(self) -> frozenset[str]:
        """Every tag that a parser looks for: control tokens spelled like one belong to the text."""
        tags = [tag for section in self.sections for tag in (section.open, section.close)]
        return frozenset(tag for tag in (*tags, *(self.thinking or ()), *self.silent, *self.marks) if tag)
