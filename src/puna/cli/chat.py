'''The interactive prompt of `puna run`: a conversation.

entry   := a line | """any lines"""        command := /name words
Ctrl-C stops an answer, or clears a line; Ctrl-D ends.
'''

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from puna.cli.answer import cut_short, echoed, figures
from puna.cli.asking import Asking, refuse_images
from puna.cli.display import Manner, open_display
from puna.errors import PunaError

if TYPE_CHECKING:
    from puna.cli.partners import Partner
    from puna.generation import Chunk

QUOTES = '"""'


@dataclass(slots=True)
class Chat:
    """A conversation: with whom, how it is asked and shown, and what was said. `find` opens another model by name.

    `remember` is whether what is typed goes into the history.
    """

    partner: Partner
    asking: Asking = field(default_factory=Asking)
    manner: Manner = field(default_factory=Manner)
    find: Callable[[str], Partner] | None = None
    verbose: bool = False
    remember: bool = True
    messages: list[dict[str, str]] = field(default_factory=list)

    def loop(self, ask: Callable[[str], str]) -> None:
        """Ask and answer until the end. `ask` gives the line typed behind a prompt; EOFError ends it."""
        from puna.cli.slash import run_command

        self.load()  # the model comes in while the first question is typed
        while True:
            try:
                entry, plain = _read(ask)
                if plain and entry.startswith("/"):
                    run_command(self, entry)
                elif entry:
                    self._answer(entry)
            except EOFError:
                return
            except KeyboardInterrupt:
                print("\nCtrl-D or /bye ends.", file=sys.stderr)
            except PunaError as error:
                print(" ".join(str(error).split()), file=sys.stderr)

    def load(self) -> None:
        """Have the model loaded, without waiting for it."""
        threading.Thread(target=_load, args=(self.partner,), daemon=True).start()

    def _answer(self, text: str) -> None:
        """Stream an answer; the question is forgotten again where there is none."""
        refuse_images(self.partner.name, text)
        self.messages.append({"role": "user", "content": text})
        said: list[Chunk] = []
        try:
            answer = self.partner.answer(self.asking.chat(self.messages))
            for chunk in echoed(answer, open_display(self.manner, plain=bool(self.asking.format))):
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


def _load(partner: Partner) -> None:
    with suppress(Exception):  # it comes again, with the first question
        partner.prepare()


def _read(ask: Callable[[str], str]) -> tuple[str, bool]:
    """One entry, and whether it is plain: not text in quotes, which may begin with a slash."""
    line = ask(">>> ").strip()
    head, quotes, body = line.partition(QUOTES)
    if not quotes or (head and not head.startswith("/")):
        return line, True
    while not body.rstrip().endswith(QUOTES):
        body += "\n" + ask("... ")
    return head + body.rstrip().removesuffix(QUOTES).strip("\n"), bool(head)
