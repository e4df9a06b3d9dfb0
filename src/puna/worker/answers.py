"""Answers under way, all in one thread: a step of the model, then what each came to, in one write.

A thread for each would have them all wake after every step, and keep the next one from beginning.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from puna.errors import PromptTooLong, PunaError
from puna.worker.protocol import Ended, Failed, FromWorker, Spoken

if TYPE_CHECKING:
    from puna.generation import Answer


class _Running(NamedTuple):
    answer: Answer
    ended: Callable[[int], None]


class Answers:
    """Answers that go on together, by `step`; `write` is given what they say. They `begin` to go on by themselves."""

    def __init__(
        self, step: Callable[[], None], write: Callable[[Iterable[FromWorker]], None], begin: bool = True
    ) -> None:
        self._step = step
        self._write = write
        self._begun = threading.Condition()
        self._new: dict[int, _Running] = {}
        self._running: dict[int, _Running] = {}
        if begin:
            threading.Thread(target=self._run, name="answers", daemon=True).start()

    def begin(self, number: int, answer: Answer, ended: Callable[[int], None]) -> None:
        """Have an answer go on until it is through; then `ended` is called with its number."""
        with self._begun:
            self._new[number] = _Running(answer, ended)
            self._begun.notify()

    def _run(self) -> None:
        while True:
            with self._begun:
                while not (self._new or self._running):
                    self._begun.wait()
            self.advance()

    def advance(self) -> None:
        """Say what there is of each answer, and compute the next step. A step that goes wrong ends all of them."""
        with self._begun:
            self._running |= self._new
            self._new = {}
        said: list[FromWorker] = []
        for number in [*self._running]:
            self._hear(number, said)
        if said:
            self._write(said)
        try:
            self._step()
        except Exception as error:
            self._write([failed(number, error) for number in self._running])
            for number in [*self._running]:
                self._end(number)

    def _hear(self, number: int, said: list[FromWorker]) -> None:
        """Add what an answer says now."""
        try:
            for chunk in self._running[number].answer.ready():
                said.append(Spoken(number, chunk))
                if chunk.done:
                    said.append(Ended(number))
                    self._end(number)
                    return
        except Exception as error:
            said.append(failed(number, error))
            self._end(number)

    def _end(self, number: int) -> None:
        running = self._running.pop(number)
        running.answer.close()
        running.ended(number)


def failed(number: int, error: Exception) -> Failed:
    """What went wrong, for who asked; what is no error of Puna's is also printed here, with its traceback."""
    if isinstance(error, PromptTooLong):
        return Failed(number, "PromptTooLong", str(error), {"tokens": error.tokens, "limit": error.limit})
    if isinstance(error, PunaError):
        return Failed(number, type(error).__name__, str(error))
    if isinstance(error, MemoryError):
        return Failed(number, "MemoryError", "out of memory; a smaller model or a shorter context may fit")
    sys.excepthook(type(error), error, error.__traceback__)
    return Failed(number, "Bug", f"{type(error).__name__} inside the model's process; its log has the traceback")
