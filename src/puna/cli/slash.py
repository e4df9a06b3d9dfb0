"""Commands of a conversation, which begin with a slash: a table of them, one of what is set, one of what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from puna.cli.answer import parameters
from puna.cli.asking import parse_format, parse_think
from puna.cli.show import parameter_lines
from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.cli.chat import Chat

T = TypeVar("T")

HELP = '''\
/set parameter NAME VALUE     an option, as in a Modelfile
/set system TEXT              the system message
/set format json | SCHEMA     what answers have to be; /set noformat: anything
/set think [LEVEL]            think first: low, medium, high, max; /set nothink: answer at once
/set history | nohistory      remember what is typed, or do not
/set wordwrap | nowordwrap    break lines between words, or where the terminal does
/set markdown | nomarkdown    draw answers as Markdown, or show them as they come
/set verbose | quiet          figures after each answer, or none
/show info | license | modelfile | parameters | system | template
/load MODEL                   go on with another model, and begin anew
/save NAME                    make a model of this one, its settings and what was said
/list                         the models there are
/clear                        forget the conversation
/bye                          end (or Ctrl-D)
/? shortcuts                  keys
"""                           begins and ends text of several lines'''

SHORTCUTS = """\
Ctrl-C                        stop an answer, or clear the line
Ctrl-D                        end, on an empty line
Ctrl-A, Ctrl-E                to the beginning of the line, to its end
Alt-B, Alt-F                  a word back, a word forward
Ctrl-U, Ctrl-K                delete what is before the cursor, what is behind it
Ctrl-W                        delete the word before the cursor
Ctrl-L                        clear the screen
Ctrl-R, Up, Down              look for what was typed before
Ctrl-G                        type in $VISUAL or $EDITOR
Alt-Enter                     begin a new line
Tab                           complete a command"""


def run_command(chat: Chat, entry: str) -> None:
    """Do what an entry says; RequestError names the closest where there is no such command."""
    name, _, rest = entry[1:].partition(" ")
    _chosen(COMMANDS, name, "/")(chat, rest.strip())


def _help(chat: Chat, rest: str) -> None:
    print(SHORTCUTS if rest.lstrip("/").startswith("short") else HELP)


def _bye(chat: Chat, rest: str) -> None:
    raise EOFError


def _clear(chat: Chat, rest: str) -> None:
    chat.messages.clear()


def _load(chat: Chat, name: str) -> None:
    """Go on with another model: settings stay, what was said does not."""
    if not name or chat.find is None:
        raise RequestError("/load: which model? /list shows those there are")
    chat.partner = chat.find(name)
    chat.messages.clear()
    chat.load()
    print(f"Loading {name}")


def _save(chat: Chat, name: str) -> None:
    if not name:
        raise RequestError("/save: under which name? /save NAME works")
    said = [*chat.partner.facts.get("messages", ()), *chat.messages]
    messages = [{"role": message["role"], "content": message["content"]} for message in said]
    parts = {"system": chat.asking.system, "parameters": chat.asking.options, "messages": messages}
    chat.partner.save(name, {part: value for part, value in parts.items() if value})
    print(f"Saved as {name}")


def _list(chat: Chat, rest: str) -> None:
    from puna.cli.list import table

    print("\n".join(table(chat.partner.listed())))


def _show(chat: Chat, rest: str) -> None:
    print("\n".join(_chosen(SHOWN, rest, "/show ")(chat)).rstrip("\n"))


def _set(chat: Chat, rest: str) -> None:
    name, _, value = rest.partition(" ")
    _chosen(SETTINGS, name, "/set ")(chat, value.strip())


def _set_parameter(chat: Chat, text: str) -> None:
    from puna.create.modelfile import parse_option
    from puna.generation import parse_options

    name, _, value = text.partition(" ")
    given = {name: value.split() if name == "stop" else parse_option(name, value.strip())}
    if name != "num_ctx":  # which loading judges
        parse_options(parameters(chat.partner.facts) | chat.asking.options, given)  # says what is wrong with a value
    chat.asking.options |= given


def _set_system(chat: Chat, text: str) -> None:
    chat.asking.system = text or None


def _set_format(chat: Chat, text: str) -> None:
    chat.asking.format = parse_format(text or "json")


def _set_think(chat: Chat, text: str) -> None:
    think = parse_think(text or "true")
    if think and "thinking" not in chat.partner.facts["capabilities"]:
        raise RequestError(f"{chat.partner.name!r} does not support thinking")
    chat.asking.think = think


def _sets(part: str, name: str, value: object) -> Callable[[Chat, str], None]:
    """Sets one thing to one value."""

    def sets(chat: Chat, text: str) -> None:
        setattr(chat if part == "chat" else getattr(chat, part), name, value)

    return sets


def _info(chat: Chat) -> Iterator[str]:
    facts = chat.partner.facts
    known, details = facts["model_info"], facts.get("details", {})
    arch = known.get("general.architecture")
    rows = {
        "name": known.get("general.name"),
        "architecture": arch,
        "parameters": details.get("parameter_size") or f"{known['general.parameter_count']:,}",
        "quantization": details.get("quantization_level"),
        "context length": known.get(f"{arch}.context_length"),
        "embedding length": known.get(f"{arch}.embedding_length"),
        "tokenizer": known.get("tokenizer.ggml.model"),
        "can do": ", ".join(facts["capabilities"]),
        "licence": known.get("general.license"),
    }
    yield from (f"{name:18} {value}" for name, value in rows.items() if value)


def _stored(name: str, missing: str) -> Callable[[Chat], Iterator[str]]:
    return lambda chat: iter([chat.partner.facts.get(name) or missing])


def _options(chat: Chat) -> Iterator[str]:
    return parameter_lines({**parameters(chat.partner.facts), **chat.asking.options})


def _system(chat: Chat) -> Iterator[str]:
    yield chat.asking.system or chat.partner.facts.get("system") or "There is no system message."


COMMANDS: dict[str, Callable[[Chat, str], None]] = {
    **dict.fromkeys(("help", "?"), _help),
    **dict.fromkeys(("bye", "exit"), _bye),
    "clear": _clear,
    "list": _list,
    "load": _load,
    "save": _save,
    "set": _set,
    "show": _show,
}
SETTINGS: dict[str, Callable[[Chat, str], None]] = {
    "parameter": _set_parameter,
    "system": _set_system,
    "format": _set_format,
    "noformat": _sets("asking", "format", None),
    "think": _set_think,
    "nothink": _sets("asking", "think", False),
    "history": _sets("chat", "remember", True),
    "nohistory": _sets("chat", "remember", False),
    "wordwrap": _sets("manner", "wrap", True),
    "nowordwrap": _sets("manner", "wrap", False),
    "markdown": _sets("manner", "markdown", True),
    "nomarkdown": _sets("manner", "markdown", False),
    "verbose": _sets("chat", "verbose", True),
    "quiet": _sets("chat", "verbose", False),
}
SHOWN: dict[str, Callable[[Chat], Iterator[str]]] = {
    "info": _info,
    "license": _stored("license", "The model has no licence text."),
    "modelfile": _stored("modelfile", "There is no Modelfile."),
    "parameters": _options,
    "system": _system,
    "template": _stored("template", "The model has no template."),
}


def _chosen(table: dict[str, T], name: str, before: str) -> T:
    """What `name` stands for in a table of commands."""
    if name in table:
        return table[name]
    close = get_close_matches(name, table, n=1)
    hint = f"closest: {before}{close[0]}" if close else f"there are {', '.join(table)}"
    raise RequestError(f"{before}{name}: there is no such command; {hint}; /? for help")
