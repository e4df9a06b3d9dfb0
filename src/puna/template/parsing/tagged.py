"""Reads an answer that comes in pieces by the tags of a format: what is said, what is thought, what is called.

    push("Let me <thi")  push("nk>...")  close()      How the text is cut changes nothing, and no text is lost.

A text that may be the beginning of a tag is held back until it is certain. A section that cannot be read is text.
"""

import re
from dataclasses import dataclass, field

from puna.template.message import Message, ToolCall
from puna.template.parsing.format import NEVER, Format, Section
from puna.template.parsing.tools import Tools

_SHORT = 256  # so much of a body without closing tag shows whether it is one
_CLOSING = frozenset("]})")


@dataclass(slots=True)
class Delta:
    """What a piece of text has made certain."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.tool_calls)


class TagParser:
    """An answer in one `format`. `prompt` is what it continues, if known: its end shows whether thinking is open."""

    def __init__(
        self, format: Format, *, tools: Tools, think: bool | None, last_message: Message | None, prompt: str = ""
    ) -> None:
        self.format = format
        self._tools = tools
        self._hidden = think in format.hides
        self._buffer = ""
        self._thinking = _begins_in_thinking(format, think, last_message, prompt)
        self._section: Section | None = None
        self._seen = 0  # how much of a section's body was searched for its end
        self._space = ""  # before the section, in case that it is text
        self._said = not self._thinking and self._prefilled(last_message)
        self._begun = self._said  # or thinking was: what counts at the beginning only does not any more
        self._lead = self._thinking and format.leads
        self._label = ""
        self._skip = "l" in format.strips and not self._thinking
        self._after = ""
        self._count = 0
        self._delta = Delta()

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thought."""
        return self._thinking

    def push(self, text: str) -> Delta:
        """What is certain with the next piece of text."""
        self._buffer += text
        if self._section and self._section.end and len(self._buffer) > _SHORT and not _CLOSING.intersection(text):
            return Delta()  # nothing in it can end the section
        return self._drained(final=False)

    def close(self) -> Delta:
        """What was held back, when nothing more comes."""
        return self._drained(final=True)

    def _prefilled(self, last: Message | None) -> bool:
        return last is not None and last.role == "assistant" and bool(last.content)

    def _drained(self, final: bool) -> Delta:
        self._seen = 0 if final else self._seen
        while self._buffer or self._section:
            if not (self._in_section(final) if self._section else self._in_text(final)):
                break
        delta, self._delta = self._delta, Delta()
        return delta

    # ---- text -------------------------------------------------------------------------------------------------------

    def _in_text(self, final: bool) -> bool:
        """One step through thinking or content; False where more is needed."""
        if not self._led(final):
            return False
        match = self._tags().search(self._buffer)
        if match:
            self._met(match)
            return True
        kept = 0 if final else self._held(self._buffer)
        if final and "r" in self.format.strips:
            self._buffer, kept = self._buffer.rstrip(), 0
        said, self._buffer = self._buffer[: len(self._buffer) - kept], self._buffer[len(self._buffer) - kept :]
        self._say(said)
        return False

    def _led(self, final: bool) -> bool:
        """Passes over what may stand where something begins; False where that takes more text."""
        while True:
            text = self._buffer.lstrip() if self._skip or self._lead else self._buffer
            text = text.lstrip(self._after) if self._after else text
            leading, begin = self._leading(), text.lstrip()
            tag = next((tag for tag in leading if begin.startswith(tag)), None)
            if tag is None:
                break
            self._buffer = begin[len(tag) :]
            self._lead_by(tag)
        self._buffer = text
        if not final and (not text or any(tag.startswith(begin) for tag in leading)):
            return False
        self._skip, self._lead, self._label, self._after = False, False, "", ""
        self._begun = self._begun or bool(text.strip())
        return bool(text)

    def _leading(self) -> tuple[str, ...]:
        """The tags that count here because something begins."""
        if self._label:
            return (self._label,)
        thinking = self.format.thinking
        if not thinking:
            return ()
        if self._thinking:
            return (thinking[0],) if self._lead else ()
        if self._begun:
            return ()
        return (thinking[0], thinking[1]) if self.format.stray else (thinking[0],)

    def _lead_by(self, tag: str) -> None:
        if tag == self._label:
            self._label = ""
        elif self.format.thinking and tag == self.format.thinking[1]:
            self._skip = True
        elif self._thinking:
            self._lead, self._skip, self._label = False, True, self.format.label
        else:
            self._think()

    def _tags(self) -> re.Pattern[str]:
        tags = sorted(self._live(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, tags)) or r"(?!)")  # `re` keeps them

    def _live(self) -> list[str]:
        """The tags that mean something in this state."""
        format = self.format
        opens = [s.open for s in format.sections if self._counts(s)]
        if self._thinking:
            return [*opens, format.thinking_ends]
        around = [format.thinking[0]] if format.thinking and format.anywhere else []
        return [*opens, *format.silent, *around]

    def _counts(self, section: Section) -> bool:
        if (section.bare or section.offered) and (self._thinking or not self._tools):
            return False
        return not (section.first and self._said)

    def _held(self, text: str) -> int:
        """How much of the end of a text may still belong to a tag."""
        kept = max((_overlap(text, tag) for tag in self._live()), default=0)
        trims = self.format.ends if self._thinking else self.format.trims or "r" in self.format.strips
        rest = text[: len(text) - kept]
        return kept + (len(rest) - len(rest.rstrip()) if trims else 0)

    def _met(self, match: re.Match[str]) -> None:
        """Takes the text before a tag, and the tag."""
        tag, before = match[0], self._buffer[: match.start()]
        self._buffer = self._buffer[match.end() :]
        meant = [s for s in self.format.sections if s.open == tag and self._counts(s)]
        section = next((s for s in meant if not (s.first and before.strip())), None)
        if meant and not section:
            self._say(before + tag)
            return
        trims = self.format.ends if self._thinking else self.format.trims
        kept = before.rstrip() if trims and tag not in self.format.silent else before
        self._say(kept)
        if section:
            self._section, self._seen, self._space = section, 0, before[len(kept) :]
            self._buffer = tag + self._buffer if section.bare else self._buffer
        elif self._thinking:
            self._thinking, self._skip, self._begun = False, True, True
        elif self.format.thinking and tag == self.format.thinking[0]:
            self._think()

    def _think(self) -> None:
        self._thinking, self._skip, self._label = True, True, self.format.label

    def _say(self, text: str) -> None:
        if self._thinking:
            self._delta.thinking += "" if self._hidden else text
        else:
            self._delta.content += text
            self._said = self._said or bool(text.strip())

    # ---- sections ---------------------------------------------------------------------------------------------------

    def _in_section(self, final: bool) -> bool:
        """One step inside a section; False where more is needed."""
        section = self._section
        assert section is not None  # for mypy: the loop has seen to it
        if section.end:
            end = section.end(self._buffer, final)
            if end is None or end == NEVER:
                return self._unended(section) if final or end == NEVER else False
            return self._read(section, self._buffer[:end], self._buffer[end:])
        at = self._buffer.find(section.close, self._seen)
        if self._thinking and 0 <= self._buffer.find(self.format.thinking_ends) < (
            at if at >= 0 else len(self._buffer)
        ):
            return self._refused(section)  # the model only thought about the tag
        if at < 0:
            self._seen = max(self._seen, len(self._buffer) - len(section.close) + 1)
            return self._unended(section) if final else False
        if not final and section.inside and section.inside(self._buffer[:at]):
            self._seen = at + len(section.close)
            return True
        return self._read(section, self._buffer[:at], self._buffer[at + len(section.close) :])

    def _read(self, section: Section, body: str, rest: str) -> bool:
        try:
            found = section.read(body, self._tools)
        except (ValueError, RecursionError):
            return self._refused(section)
        if (section.bare or section.offered) and not all(
            isinstance(c, ToolCall) and c.name in self._tools for c in found
        ):
            return self._refused(section)
        self._called(section, found, rest)
        return True

    def _unended(self, section: Section) -> bool:
        """An answer ends inside a section: a whole call counts, else what is in it is text."""
        body = self._buffer[: len(self._buffer) - _overlap(self._buffer, section.close)]
        try:
            found = section.read(body, self._tools) if body.rstrip().endswith(section.last) else []
        except (ValueError, RecursionError):
            found = []
        calls = [call for call in found if isinstance(call, ToolCall)]
        if not calls or not all(self._tools.complete(call) for call in calls):
            return self._refused(section, unended=not section.bare and not self._thinking)
        self._called(section, found, "")
        return True

    def _called(self, section: Section, found: list[ToolCall | str], rest: str) -> None:
        self._thinking, self._section, self._buffer = False, None, rest
        self._space = ""
        for piece in found:
            if isinstance(piece, ToolCall):
                piece.index = self._count
                self._count += 1
                self._delta.tool_calls.append(piece)
            else:
                self._say(piece)
        self._skip, self._after = self.format.trims, section.after

    def _refused(self, section: Section, unended: bool = False) -> bool:
        """A section is none after all: its opening is text, and what follows is read again."""
        self._section = None
        if section.bare:
            self._buffer = self._buffer[len(section.open) :]
        self._say(self._space + ("" if unended else section.open))
        self._space = ""
        return True


def _begins_in_thinking(format: Format, think: bool | None, last: Message | None, prompt: str) -> bool:
    if not format.thinking:
        return False
    opening, closing = format.thinking
    end = prompt.rstrip()
    opened, closed = end.endswith((opening, (opening + format.label).rstrip())), end.endswith(closing)
    if opened or closed:
        return opened
    if last is not None and last.role == "assistant":
        if last.content or not format.resumes:
            return False
        if last.thinking:
            return True
    if think and format.reopens and last is not None and last.role == "tool":
        return True
    always = len(format.opens) == 3  # whatever was asked for; else a prompt that is known would show it
    return think in format.opens and (always or not prompt)


def _overlap(text: str, tag: str) -> int:
    """Length of the longest end of a text that begins a tag and is not all of it."""
    sizes = range(min(len(text), len(tag) - 1), 0, -1)
    return next((n for n in sizes if text.endswith(tag[:n])), 0)
