'''The interactive prompt of `puna run`: a conversation, and commands that begin with a slash.

entry   := a line | """any lines"""        command := /name words
Ctrl-C stops an answer, or clears a line; Ctrl-D ends.
'''

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from puna.cli.answer import cut_short, echoed, figures, parameters
from puna.cli.show import parameter_lines
from puna.errors import PunaError, RequestError

if TYPE_CHECKING:
    from puna.cli.asking import Asking
    from puna.cli.partners import Partner
    from puna.generation import Chunk

T = TypeVar("T")

QUOTES = '"""'
HELP = '''\
/set parameter NAME VALUE   an option, as in a Modelfile
/set system TEXT            the system message
/set verbose | quiet        figures after each answer, or none
/show info | license | modelfile | parameters | system | template
/clear                      forget the conversation
/bye                        end (or Ctrl-D)
"""                         begins and ends text of several lines
Ctrl-C                      stops an answer'''


class Chat:
    """A conversation. `ask` gives the line typed behind a prompt; EOFError ends it, Ctrl-C may interrupt."""

    def __init__(
        self,
        partner: Partner,
        asking: Asking,
        *,
        verbose: bool = False,
        hide_thinking: bool = False,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self.partner = partner
        self.asking = asking
        self.verbose = verbose
        self.hide_thinking = hide_thinking
        self.messages: list[dict[str, str]] = []
        self._ask = ask

    def loop(self) -> None:
        """Ask and answer until the end; the model loads while the first question is typed."""
        self._ask = self._ask or terminal()
        threading.Thread(target=self._load, daemon=True).start()  # last, so that the prompt does not wait for it
        while True:
            try:
                entry, plain = self._read(self._ask)
                if plain and entry.startswith("/"):
                    self._command(entry)
                elif entry:
                    self._answer(entry)
            except EOFError:
                return
            except KeyboardInterrupt:
                print("\nCtrl-D or /bye ends.", file=sys.stderr)
            except PunaError as error:
                print(" ".join(str(error).split()), file=sys.stderr)

    def _load(self) -> None:
        with suppress(Exception):  # it comes again, with the first question
            self.partner.prepare()

    def _read(self, ask: Callable[[str], str]) -> tuple[str, bool]:
        """One entry, and whether it is plain: not text in quotes, which may begin with a slash."""
        line = ask(">>> ").strip()
        head, quotes, body = line.partition(QUOTES)
        if not quotes or (head and not head.startswith("/")):
            return line, True
        while not body.rstrip().endswith(QUOTES):
            body += "\n" + ask("... ")
        return head + body.rstrip().removesuffix(QUOTES).strip("\n"), bool(head)

    def _answer(self, text: str) -> None:
        """Stream an answer; the question is forgotten again where there is none."""
        self.messages.append({"role": "user", "content": text})
        said: list[Chunk] = []
        try:
            answer = self.partner.answer(self.asking.chat(self.messages))
            for chunk in echoed(answer, thinking=not self.hide_thinking):
                said.append(chunk)
        except KeyboardInterrupt:
            print(" ...", end="" if said else "\n\n")
        finally:
            if said:
                print("\n")
                self.messages.append({"role": "assistant", "content": "".join(chunk.text for chunk in said)})
            else:
                self.messages.pop()
        if said and (cut := cut_short(said[-1], self.partner, self.asking.options)):
            print(f"{cut}; /clear begins anew", file=sys.stderr)
        if self.verbose and said and said[-1].stats:
            print(figures(said[-1].stats, self.partner.running.backend), end="\n\n", file=sys.stderr)

    # ---- commands ---------------------------------------------------------------------------------------------------

    def _command(self, entry: str) -> None:
        name, _, rest = entry[1:].partition(" ")
        _chosen(COMMANDS, name, "/")(self, rest.strip())

    def _help(self, rest: str) -> None:
        print(HELP)

    def _bye(self, rest: str) -> None:
        raise EOFError

    def _clear(self, rest: str) -> None:
        self.messages.clear()

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        _chosen(SETTINGS, name, "/set ")(self, value.strip())

    def _set_parameter(self, text: str) -> None:
        from puna.create.modelfile import parse_option
        from puna.generation import parse_options

        name, _, value = text.partition(" ")
        given = {name: value.split() if name == "stop" else parse_option(name, value.strip())}
        if name != "num_ctx":
            parse_options(
                parameters(self.partner.facts), self.asking.options | given
            )  # says what is wrong with a value
        self.asking.options |= given

    def _set_system(self, text: str) -> None:
        self.asking.system = text

    def _set_verbose(self, text: str) -> None:
        self.verbose = True

    def _set_quiet(self, text: str) -> None:
        self.verbose = False

    def _show(self, rest: str) -> None:
        print("\n".join(_chosen(SHOWN, rest, "/show ")(self)).rstrip("\n"))


def _info(chat: Chat) -> Iterator[str]:
    facts = chat.partner.facts
    known, details = facts["model_info"], facts.get("details", {})
    arch = known.get("general.architecture")
    rows = {
        "name": known.get("general.name"),
        "architecture": arch,
        "parameters": details.get("parameter_size"),
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


SHOWN: dict[str, Callable[[Chat], Iterator[str]]] = {
    "info": _info,
    "license": _stored("license", "The model has no licence text."),
    "modelfile": _stored("modelfile", "There is no Modelfile."),
    "parameters": lambda chat: parameter_lines({**parameters(chat.partner.facts), **chat.asking.options}),
    "system": lambda chat: iter(
        [chat.asking.system or chat.partner.facts.get("system") or "There is no system message."]
    ),
    "template": _stored("template", "The model has no template."),
}

COMMANDS: dict[str, Callable[[Chat, str], None]] = {
    **dict.fromkeys(("help", "?"), Chat._help),
    **dict.fromkeys(("bye", "exit"), Chat._bye),
    "clear": Chat._clear,
    "set": Chat._set,
    "show": Chat._show,
}
SETTINGS: dict[str, Callable[[Chat, str], None]] = {
    "parameter": Chat._set_parameter,
    "system": Chat._set_system,
    "verbose": Chat._set_verbose,
    "quiet": Chat._set_quiet,
}


def _chosen(table: dict[str, T], name: str, before: str) -> T:
    """What `name` stands for in a table of commands."""
    if name in table:
        return table[name]
    close = get_close_matches(name, table, n=1)
    hint = f"closest: {before}{close[0]}" if close else f"there are {', '.join(table)}"
    raise RequestError(f"{before}{name}: there is no such command; {hint}; /? for help")


def terminal() -> Callable[[str], str]:
    """Lines from the terminal, with editing and a history that lasts."""
    from pathlib import Path

    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    history = Path.home() / ".puna" / "history"
    history.parent.mkdir(parents=True, exist_ok=True)
    history.touch(0o600)
    history.chmod(0o600)  # one of an earlier version was for all to read
    session: PromptSession[str] = PromptSession(history=FileHistory(str(history)))

    def ask(prompt: str) -> str:
        placeholder = "Send a message (/? for help)" if prompt == ">>> " else ""
        return session.prompt(prompt, placeholder=placeholder)

    return ask
