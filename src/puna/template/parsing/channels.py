"""Reads answers written as messages, each with a header that says whom it is for: gpt-oss's harmony, and Glimmer.

<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
<|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>
to=self<|message|>...<|eom|><|start|>assistant to=f<|message|><atem:function_calls>...</atem:function_calls><|eot|>
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from puna.template.message import Message, ToolCall
from puna.template.parsing.atem import ANYONE, WRAPPER, read_atem
from puna.template.parsing.format import Format
from puna.template.parsing.objects import DECODER, arguments_of
from puna.template.parsing.style import ATEM
from puna.template.parsing.tagged import Delta
from puna.template.parsing.tools import Tools

CONTENT, THINKING, CALL = "content", "thinking", "call"
_MESSAGE = "<|message|>"
_LONGEST = 64  # longer than any tag that ends a message
_RECIPIENT = re.compile(r"to=([^\s<]+)")
_HEADING = re.compile(r"<\|?\w*\|?>?|to=\S*|\b(?:assistant|analysis|commentary|final|json)\b")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w*)")
_HEADER = re.compile(r"\s*(?:<|to=|assistant\b|$)|\s*t(?:o)?$|\s*a(?:s|ss|ssi|ssis|ssist|ssista|ssistan|ssistant)?$")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs: where messages end, whom a header is for, and how a call is read."""

    format: Format
    ends: re.Pattern[str]
    tags: tuple[str, ...]
    sort: Callable[[str, Tools], tuple[str, str]]
    """A header to what its message is, and the name of the tool it calls."""
    read: Callable[[str, str, Tools], ToolCall]
    """A name and a body to a call; ValueError where it is none."""
    headed: bool
    """Whether an answer without a header is told by its first words; else everything before a message is header."""


class ChannelParser:
    """An answer in messages. What is no call of a tool although it should be comes back as content."""

    def __init__(self, dialect: Dialect, *, tools: Tools, think: bool | None, last_message: Message | None) -> None:
        self.format = dialect.format
        self._dialect = dialect
        self._tools = tools
        self._hidden = think in dialect.format.hides
        self._buffer = ""
        self._sink: str | None = None  # None: in a header
        self._name = ""
        self._first = True
        self._seen = 0  # how much of a message was searched for its end
        self._count = 0
        self._delta = Delta()
        if last_message is not None and last_message.role == "assistant":
            self._sink = CONTENT if last_message.content else THINKING if last_message.thinking else None

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thought."""
        return self._sink == THINKING

    def push(self, text: str) -> Delta:
        """What is certain with the next piece of text."""
        self._buffer += text
        return self._drained(final=False)

    def close(self) -> Delta:
        """What was held back, when nothing more comes."""
        return self._drained(final=True)

    def _drained(self, final: bool) -> Delta:
        while self._buffer and (self._in_header(final) if self._sink is None else self._in_message(final)):
            pass
        delta, self._delta = self._delta, Delta()
        return delta

    def _in_header(self, final: bool) -> bool:
        if self._first and self._dialect.headed and not _HEADER.match(self._buffer):
            self._sink = CONTENT
            return True
        header, tag, rest = self._buffer.partition(_MESSAGE)
        if not tag:
            if final:
                self._delta.content += header if _HEADING.sub("", header).strip() else ""
                self._buffer = ""
            return False
        self._first = False
        self._sink, self._name = self._dialect.sort(header, self._tools)
        self._buffer = rest
        return True

    def _in_message(self, final: bool) -> bool:
        body, rest = self._ended()
        if body is None:
            if self._waits() and not final:
                return False
            kept = 0 if final else _held(self._buffer, self._dialect.tags)
            said, self._buffer = self._buffer[: len(self._buffer) - kept], self._buffer[len(self._buffer) - kept :]
            self._seen = 0
            self._say(said)
            return False
        self._say(body)
        self._sink, self._buffer = None, rest
        return True

    def _ended(self) -> tuple[str | None, str]:
        """The body of a message and what comes behind it; None for a body that goes on."""
        wrapped = self._waits() and self._buffer.lstrip().startswith(WRAPPER[0])
        begin = self._buffer.find(WRAPPER[1]) if wrapped else self._seen
        match = self._dialect.ends.search(self._buffer, begin) if begin >= 0 else None
        if not match:
            self._seen = 0 if wrapped else max(len(self._buffer) - _LONGEST, 0)
            return None, ""
        self._seen = 0
        return self._buffer[: match.start()], self._buffer[match.end() :]

    def _waits(self) -> bool:
        """Whether a message must be whole before it is told what it is."""
        if self._sink == CALL:
            return True
        text = self._buffer.lstrip()
        begins = text.startswith(WRAPPER[0]) or WRAPPER[0].startswith(text)
        return self._sink == CONTENT and self._name == ANYONE and begins

    def _say(self, body: str) -> None:
        if self._sink == THINKING:
            self._delta.thinking += "" if self._hidden else body
            return
        if self._waits() and body.strip():
            try:
                call = self._dialect.read(self._name, body, self._tools)
            except (ValueError, RecursionError):
                pass
            else:
                call.index = self._count
                self._count += 1
                self._delta.tool_calls.append(call)
                return
        self._delta.content += body
        self._name = ""  # what comes behind it is text too


def _held(text: str, tags: tuple[str, ...]) -> int:
    """How much of the end of a text may still belong to a tag."""
    return max((n for tag in tags for n in range(1, min(len(text), len(tag)) + 1) if text.endswith(tag[:n])), default=0)


# ---- harmony --------------------------------------------------------------------------------------------------------


def _harmony_sort(header: str, tools: Tools) -> tuple[str, str]:
    if match := _RECIPIENT.search(header):
        return CALL, match[1].removeprefix("functions.")
    channel = _CHANNEL.search(header)
    return (THINKING if channel and channel[1] == "analysis" else CONTENT), ""


def _harmony_read(name: str, body: str, tools: Tools) -> ToolCall:
    return ToolCall(spelled(tools).get(name, name), arguments_of(DECODER.decode(body.strip())))


def spelled(tools: Tools) -> dict[str, str]:
    """The names that harmony has for tools, of letters, digits, `_` and `$`, with the tools' own."""
    names: dict[str, str] = {}
    for name in tools.names:
        text = "".join("_" if c in " -." else c for c in name if c.isalnum() or c in "_$ -.")
        text = f"_{text}" if text[:1].isdigit() else text or "unnamed"
        number, unique = 2, text
        while unique in names:
            number, unique = number + 1, f"{text}_{number}"
        names[unique] = name
    return names


HARMONY = Dialect(
    Format(
        "harmony",
        ("<|channel|>analysis<|message|>", "<|end|>"),
        marks=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|call|>", "<|return|>"),
        rules="start: aside* @answer\n"
        'aside: <|channel|> ("analysis" | "commentary") <|message|> /(?s:.*)/ <|end|> <|start|> "assistant"\n',
        heads="<|channel|>final<|message|>",
        writes=("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", "<|call|>"),
        spells=spelled,
    ),
    re.compile(r"<\|(?:end|call|return)\|>|(?=<\|start\|>)"),
    ("<|end|>", "<|call|>", "<|return|>", "<|start|>"),
    _harmony_sort,
    _harmony_read,
    headed=True,
)


# ---- Glimmer --------------------------------------------------------------------------------------------------------


def _glimmer_sort(header: str, tools: Tools) -> tuple[str, str]:
    match = _RECIPIENT.search(header)
    name = match[1] if match else ""
    if name == "self":
        return THINKING, ""
    return (CONTENT, ANYONE) if name in ("", "user", WRAPPER[0].strip("<>")) else (CALL, name)


GLIMMER = Dialect(
    Format(
        "glimmer",
        ("to=self<|message|>", "<|eom|>"),
        hides=(False,),
        marks=("<|start|>", "<|message|>", "<|eom|>", "<|eot|>", *WRAPPER),
        rules='start: thought? @answer\nthought: " to=self" <|message|> /(?s:.*)/ <|eom|> <|start|> "assistant"\n',
        heads=" to=user<|message|>",
        writes=(
            ' to=NAME<|message|><atem:function_calls>\n<atem:invoke name="NAME">\n',
            "</atem:invoke>\n</atem:function_calls><|eot|>",
        ),
        again="</atem:invoke>\n</atem:function_calls><|eom|><|start|>assistant"
        ' to=NAME<|message|><atem:function_calls>\n<atem:invoke name="NAME">\n',
        style=ATEM,
    ),
    re.compile(r"<\|eo[mt]\|>|<\|start\|>(?=assistant(?: to=|<\|message\|>))"),
    ("<|eom|>", "<|eot|>", "<|start|>assistant to=", "<|start|>assistant<|message|>"),
    _glimmer_sort,
    read_atem,
    headed=False,
)
