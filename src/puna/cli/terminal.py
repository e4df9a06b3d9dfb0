"""Lines from a terminal: editing, completion of commands, and a history that lasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.named_commands import edit_and_execute

HINT = "Send a message (/? for help)"
SWITCHES = ("PUNA_NOHISTORY", "OLLAMA_NOHISTORY")


def remembers(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is typed is to go into the history, as variables say."""
    return not any(environ.get(name, "").strip() not in ("", "0", "false") for name in SWITCHES)


def typed_lines(remember: Callable[[], bool]) -> Callable[[str], str]:
    """What gives the line typed behind a prompt; `remember` tells whether one goes into the history."""
    from puna.cli.slash import COMMANDS, SETTINGS, SHOWN

    words: dict[str, Iterable[str]] = dict.fromkeys((f"/{name}" for name in COMMANDS), ())
    words |= {"/set": SETTINGS, "/show": SHOWN, "/?": ("shortcuts",)}
    session: PromptSession[str] = PromptSession(
        history=_history(remember),
        completer=_Commands(words),
        complete_while_typing=False,
        key_bindings=_keys(),
        enable_open_in_editor=True,
    )

    def ask(prompt: str) -> str:
        return session.prompt(prompt, placeholder=HINT if prompt == ">>> " else "")

    return ask


class _Commands(Completer):
    """Completes a command, and then what stands behind it."""

    def __init__(self, words: Mapping[str, Iterable[str]]) -> None:
        self._words = words

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Words that begin as the last one does."""
        text = document.text_before_cursor
        first, space, rest = text.partition(" ")
        known, begun = (self._words.get(first, ()), rest) if space else (self._words, first)
        return (Completion(word, -len(begun)) for word in known if text and word.startswith(begun))


def _keys() -> KeyBindings:
    keys = KeyBindings()
    keys.add("c-g")(edit_and_execute)

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class _History(FileHistory):
    """A file of what was typed, to which only what is to be remembered is added."""

    def __init__(self, path: Path, remember: Callable[[], bool]) -> None:
        super().__init__(str(path))
        self._remember = remember

    def store_string(self, string: str) -> None:
        if self._remember():
            super().store_string(string)


def _history(remember: Callable[[], bool]) -> History:
    """That in the home directory, which only its owner reads; where there can be none, one for this process."""
    path = Path.home() / ".puna" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.chmod(0o600)  # one of an earlier version was for all to read
    except OSError:
        return InMemoryHistory()
    return _History(path, remember)
