'''The interactive prompt of `puna run`: a conversation, and commands that begin with a slash.

entry   := a line | """any lines"""        command := /name words
Ctrl-C stops an answer, or clears a line; Ctrl-D ends.
'''

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from puna.cli.answer import cut_short, echoed, figures
from puna.errors import PunaError, RequestError

if TYPE_CHECKING:
    from puna.generation import Chunk
    from puna.model import Model

T = TypeVar("T")

QUOTES = '"""'
HELP = '''\
/set parameter NAME VALUE   an option, as in a Modelfile
/set system TEXT            the system message
/set verbose | quiet        figures after each answer, or none
/show info | template | system | parameters
/clear                      forget the conversation
/bye                        end (or Ctrl-D)
"""                         begins and ends text of several lines
Ctrl-C                      stops an answer'''


class Chat:
    """A conversation with `model`. `ask` gives the line typed behind a prompt; EOFError ends, Ctrl-C may interrupt."""

    def __init__(
        self,
        model: Model,
        options: dict[str, Any],
        *,
        system: str | None = None,
        verbose: bool = False,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self.model = model
        self.options = options
        self.system = system
        self.verbose = verbose
        self.messages: list[dict[str, str]] = []
        self._ask = ask

    def loop(self) -> None:
        """Ask and answer until the end; the model loads while the first question is typed."""
        _ = self.model.backend  # what it has to say about a missing one comes before the first prompt
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
            self.model.prepare()

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
            for chunk in echoed(self.model.chat(self._conversation(), **self.options)):
                said.append(chunk)
        except KeyboardInterrupt:
            print(" ...", end="" if said else "\n\n")
        finally:
            if said:
                print("\n")
                self.messages.append({"role": "assistant", "content": "".join(chunk.text for chunk in said)})
            else:
                self.messages.pop()
        if said and (cut := cut_short(said[-1], self.model, self.options)):
            print(f"{cut}; /clear begins anew", file=sys.stderr)
        if self.verbose and said and said[-1].stats:
            print(figures(said[-1].stats, self.model.backend_choice), end="\n\n", file=sys.stderr)

    def _conversation(self) -> list[dict[str, str]]:
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages]

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
        parse_options(self.model.opened.params, self.options | given)  # says what is wrong with a value
        self.options |= given

    def _set_system(self, text: str) -> None:
        self.system = text

    def _set_verbose(self, text: str) -> None:
        self.verbose = True

    def _set_quiet(self, text: str) -> None:
        self.verbose = False

    def _show(self, rest: str) -> None:
        from puna.cli.show import PARTS, parameter_lines

        shown = PARTS | {
            "info": PARTS["summary"],
            "template": lambda opened: iter([self.model.template]),
            "system": lambda opened: iter([self.system or opened.system or "There is no system message."]),
            "parameters": lambda opened: parameter_lines({**opened.params, **self.options}),
        }
        print("\n".join(_chosen(shown, rest, "/show ")(self.model.opened)))


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
