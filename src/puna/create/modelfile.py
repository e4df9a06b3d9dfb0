'''Modelfiles: the recipe of a model as text, in Ollama's grammar. It opens no file and knows no store.

    file    := (comment | command)*                 comment := a line whose first character is #
    command := NAME value                           NAME in any letter case
             | PARAMETER name value | MESSAGE role value        role := system | user | assistant
    value   := the rest of the line | "any lines" | """any lines"""        (closing quotes end their line)

UTF-8, or UTF-16 with a byte order mark.
'''

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any

from puna.errors import ModelfileError

Command = tuple[str, str | tuple[str, str]]

COMMANDS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
ROLES = ("system", "user", "assistant")
OPTIONS: dict[str, type] = {
    **dict.fromkeys(("num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch"), int),
    **dict.fromkeys(("num_gpu", "main_gpu", "num_thread", "draft_num_predict"), int),
    **dict.fromkeys(("top_p", "min_p", "typical_p", "temperature", "repeat_penalty"), float),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), float),
    "use_mmap": bool,
    "stop": list,
}
"""Every option a PARAMETER may set, and its type; `stop` collects."""

LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0, inf),
    "top_k": (-1, inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_last_n": (-1, inf),
    "repeat_penalty": (1e-6, inf),
    "num_ctx": (0, inf),
    "num_thread": (0, inf),
}
"""Values that options with a range may have; of those for sampling a test compares them with the sampler's."""

DEPRECATED = frozenset(
    (
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    )
)

_MAX_BYTES = 64 << 20
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_SECOND = {  # commands that take a word before their value
    "parameter": (re.compile(r"([A-Za-z0-9_]+)(?:[^\S\r\n](.*)|$)", re.DOTALL), "an option name and a value"),
    "message": (re.compile(r"([A-Za-z]+)(?:[^\S\r\n](.*)|$)", re.DOTALL), "a role and a text"),
}
_BOOLS = {
    word: word[0] in "1tT" for word in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")
}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Modelfile:
    """A parsed Modelfile: `commands` are (name, value) in order, names in lower case.

    The value of 'parameter' is (option, text), of 'message' (role, text), else text. `lines` are their line numbers.
    """

    commands: list[Command]
    lines: list[int] = field(default_factory=list, compare=False)

    def texts(self, name: str) -> list[str]:
        """The values of all commands of a name that take plain text."""
        return [value for command, value in self.commands if command == name and isinstance(value, str)]

    def _pairs(self, name: str) -> list[tuple[str, str]]:
        return [value for command, value in self.commands if command == name and isinstance(value, tuple)]

    def __str__(self) -> str:
        return "".join(f"{_printed(name, value)}\n" for name, value in self.commands)

    def request(self) -> dict[str, Any]:
        """The create request it stands for, without what is empty; deprecated parameters are dropped with a warning.

        `from` is a text, or a list where there are several lines. ModelfileError for options that do not exist or do
        not have their type.
        """
        sources = self.texts("from")
        if not sources:
            raise ModelfileError("the Modelfile has no FROM line; it names the model, file or directory to start from")
        request: dict[str, Any] = {"from": sources[0] if len(sources) == 1 else sources}
        for name in ("template", "system", "renderer", "parser", "requires"):
            request[name] = "".join(self.texts(name)[-1:])  # the last one counts
        request |= {"license": self.texts("license"), "adapters": self.texts("adapter"), "draft": self.texts("draft")}
        request["messages"] = [{"role": role, "content": text} for role, text in self._pairs("message")]
        request["parameters"] = self._parameters()
        return {key: value for key, value in request.items() if value}

    def _parameters(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for option, value, _ in self.options():
            options[option] = [*options.get("stop", ()), *value] if option == "stop" else value
        for option, _ in self._pairs("parameter"):
            if option in DEPRECATED:
                log.warning("PARAMETER %s is deprecated and has no effect", option)
        return options

    def options(self) -> list[tuple[str, Any, int | None]]:
        """Every PARAMETER that has an effect: its name, its value in its type, and its line if that is known."""
        options = []
        for index, (name, value) in enumerate(self.commands):
            if name == "parameter" and not isinstance(value, str) and value[0] not in DEPRECATED:
                line = self.lines[index] if index < len(self.lines) else None
                options.append((value[0], parse_option(*value, line), line))
        return options

    def lines_of(self, name: str) -> list[int | None]:
        """The line of each command of a name, as far as they are known."""
        known = [*self.lines, *[None] * (len(self.commands) - len(self.lines))]
        return [line for (command, _), line in zip(self.commands, known, strict=True) if command == name]

    def line_of(self, name: str) -> int | None:
        """The line of the last command of a name, if it is known."""
        return (self.lines_of(name) or [None])[-1]


def parse_option(option: str, text: str, line: int | None = None) -> int | float | bool | list[str]:
    """Reads the value of an option as its type; ModelfileError where the option is unknown or the text does not fit."""
    kind = OPTIONS.get(option)
    if kind is None:
        close = get_close_matches(option, OPTIONS, n=1)
        hint = f"closest: {close[0]}" if close else f"there are {', '.join(sorted(OPTIONS))}"
        raise ModelfileError(f"PARAMETER {option}: no such option; {hint}", line)
    if kind is list:
        return [text]
    if kind is bool and text in _BOOLS:
        return _BOOLS[text]
    if kind is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if kind is float and re.fullmatch(r"[+-]?[0-9.]{1,40}(?:[eE][+-]?[0-9]{1,3})?", text) and text.count(".") <= 1:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if isfinite(number):
            return number
    words = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
    raise ModelfileError(f"PARAMETER {option}: {text[:80]!r} does not fit; {words} works", line)


def parse_params(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Options as JSON has them, in their types; ModelfileError names `what` and the option that does not fit."""
    options: dict[str, Any] = {}
    for option, value in values.items():
        if option in DEPRECATED:
            continue
        items = value if isinstance(value, list) else [value]
        try:
            parsed = [parse_option(option, item if isinstance(item, str) else json.dumps(item)) for item in items]
        except ModelfileError as error:
            raise ModelfileError(f"{what}: {error}") from error
        if parsed:
            options[option] = [text for part in parsed if isinstance(part, list) for text in part] or parsed[-1]
            check_range(option, options[option])
    return options


def check_range(option: str, value: Any, line: int | None = None) -> None:
    """ModelfileError for a value that no answer could be made with."""
    low, high = LIMITS.get(option, (-inf, inf))
    if isinstance(value, (int, float)) and not low <= value <= high:
        raise ModelfileError(f"PARAMETER {option}: is {value}; a number from {low} to {high} works", line)
    if isinstance(value, list) and not all(value):
        raise ModelfileError(f"PARAMETER {option}: the text is empty; leave the line out", line)


def parse_modelfile(source: str | bytes) -> Modelfile:
    """Parses a Modelfile; ModelfileError carries the line."""
    if not isinstance(source, str | bytes):
        raise ModelfileError(f"a Modelfile is text or bytes, not {type(source).__name__}")
    lines = [(match[1], match[2]) for match in _LINE.finditer(_decode(source))]
    modelfile, at = Modelfile([]), 0
    while at < len(lines):
        text = lines[at][0].strip()
        if not text or text.startswith("#"):
            at += 1
            continue
        command, after = _command(lines, at)
        modelfile.commands.append(command)
        modelfile.lines.append(at + 1)
        at = after
    if not modelfile.texts("from"):
        raise ModelfileError("the Modelfile has no FROM line; it names the model, file or directory to start from")
    return modelfile


def _decode(source: str | bytes) -> str:
    if len(source) > _MAX_BYTES:
        raise ModelfileError(f"the Modelfile has {len(source)} bytes; at most {_MAX_BYTES} are read")
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    encoding = "utf-16" if source[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return source.decode(encoding)
    except UnicodeDecodeError as error:
        line = source[: error.start].count(b"\n") + 1
        raise ModelfileError(
            f"byte {error.start} is not {encoding.removesuffix('-sig')}; save the file as UTF-8", line
        ) from error


def _command(lines: list[tuple[str, str]], at: int) -> tuple[Command, int]:
    """The command that begins at a line, and the line behind it."""
    word, *rest = re.split(r"\s", lines[at][0].lstrip(), maxsplit=1)
    name = word.lower()
    if name not in COMMANDS:
        known = ", ".join(f'"{command}"' for command in COMMANDS[:-1])
        hint = "" if rest or len(lines) > 2 else f"; of a model or a file, 'FROM {word[:40]}' is a Modelfile"
        raise ModelfileError(f'{word[:40]!r}: command must be one of {known}, or "{COMMANDS[-1]}"{hint}', at + 1)
    if not rest:
        later = f", not on line {at + 2}" if lines[at + 1][0].strip() else ""
        raise ModelfileError(f"{word} has no value; it stands on the same line{later}", at + 1)
    if name not in _SECOND:
        value, after = _value(rest[0], lines, at)
        return (name, value), after
    pattern, words = _SECOND[name]
    match = pattern.match(rest[0].lstrip())
    if match is None or match[2] is None:
        raise ModelfileError(f"{word} {rest[0].strip()[:40]!r}: something is missing; {words} work", at + 1)
    if name == "message" and match[1] not in ROLES:
        raise ModelfileError(f'{match[1]!r}: message role must be one of "system", "user", or "assistant"', at + 1)
    value, after = _value(match[2], lines, at)
    return (name, (match[1], value)), after


def _value(first: str, lines: list[tuple[str, str]], at: int) -> tuple[str, int]:
    """The value whose first line is given, and the line behind it."""
    head = first.strip()
    if not head.startswith('"'):
        return head, at + 1
    quote = '"""' if head.startswith('"""') else '"'
    if len(head) >= 2 * len(quote) and head.endswith(quote):
        return head[len(quote) : -len(quote)], at + 1
    parts = [first.lstrip()[len(quote) :], lines[at][1]]
    for index in range(at + 1, len(lines)):
        text, ending = lines[index]
        if text.rstrip().endswith(quote):
            return "".join(parts) + text.rstrip()[: -len(quote)], index + 1
        parts += [text, ending]
    raise ModelfileError(
        f"the {quote} is never closed: unexpected end of the file; {quote} at the end of a line closes it", at + 1
    )


def _printed(name: str, value: str | tuple[str, str]) -> str:
    words = [name.upper()] if isinstance(value, str) else [name.upper(), value[0]]
    return " ".join([*words, _quoted(value if isinstance(value, str) else value[1])])


def _quoted(text: str) -> str:
    if text and text == text.strip() and not text.startswith('"') and not re.search(r"[\r\n]", text):
        return text
    if re.search(r'"""[^\S\r\n]*[\r\n]', text):
        raise ModelfileError(
            'a line that ends in """ inside a value cannot be written in a Modelfile; put text behind it'
        )
    return f'"""{text}"""' if text else '""'


def expand_path(path: str, relative_to: str | os.PathLike[str] = "") -> str:
    """The absolute path a Modelfile means: '~' is a home, relative ones start at the Modelfile's directory."""
    home = os.path.expanduser(path)
    if path.startswith("~") and home == path:
        raise ModelfileError(f"path {path!r}: there is no such user; an absolute path works")
    return os.path.abspath(os.path.join(relative_to, home))
