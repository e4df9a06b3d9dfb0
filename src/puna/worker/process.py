"""The worker's end of the line: `python -m puna.worker.process`, one model, a thread for each job, one for answers.

Frames come on standard input and leave on what was standard output; whatever else prints goes to standard error. The
process ends when its input does, so it never outlives the server.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from puna.errors import PunaError, RequestError
from puna.worker import tasks
from puna.worker.answers import Answers, failed
from puna.worker.protocol import (
    Cancel,
    Ended,
    FromWorker,
    Given,
    Job,
    Load,
    Prompted,
    Ready,
    frame,
    read_frame,
    to_worker,
)
from puna.worker.requests import Chat, Decide, Embed, Generate, Of
from puna.worker.variants import Variants

if TYPE_CHECKING:
    from puna.generation import Answer
    from puna.model import Model


PREPARING = 2
"""Prompts that are made at once; more would keep the answers under way from going on."""
SWITCH_SECONDS = 0.5e-3
"""How long one thread may keep the others waiting."""
QUIET_SECONDS = 0.25
"""Without a job for so long, there is time for what may be of use later, which keeps other threads waiting."""


class Worker:
    """Jobs on an open model, and others of its weights.

    Values are written by the threads that make them, answers begun there as they come.
    """

    def __init__(self, model: Model, write: Callable[[Iterable[FromWorker]], None]) -> None:
        self._variants = Variants(model)
        self._write = write
        self._answers = Answers(model.step, write)
        self._preparing = threading.Semaphore(PREPARING)
        self._lock = threading.Lock()
        self._cancelled: dict[int, Callable[[], None] | None] = {}  # of jobs under way: how to end each
        self._begun = 0  # jobs so far

    def begin(self, job: Job) -> None:
        """Start a job in a thread of its own."""
        with self._lock:
            self._cancelled[job.number] = None
            self._begun += 1
        threading.Thread(target=self._run, args=(job,), name=f"job {job.number}", daemon=True).start()

    def cancel(self, number: int) -> None:
        """End a job, wherever it is."""
        with self._lock:
            end = self._cancelled.pop(number, None)
        if end:
            end()

    def prepare_formats(self, quiet: float = QUIET_SECONDS) -> None:
        """Once nothing was under way for `quiet` seconds, make what the first answer in a format would wait for."""
        begun = -1
        while self._cancelled or begun != self._begun:
            begun = self._begun
            time.sleep(quiet)
        with suppress(PunaError):  # who asks for a format is told why there is none
            self._variants.find(None).prepare_formats()

    def _run(self, job: Job) -> None:
        try:
            if isinstance(job.ask, Chat | Generate) and type(job.ask) not in tasks.VALUES:
                self._answer(job.number, job.ask, job.of)
                return
            model = self._variants.find(job.of)
            more = [self._variants.adapters(model, job.ask.lora)] if isinstance(job.ask, Embed | Decide) else []
            value = tasks.VALUES[type(job.ask)](model, job.ask, *more)
            self._write([Given(job.number, value), Ended(job.number)])
        except Exception as error:
            self._write([failed(job.number, error)])
        self._forget(job.number)

    def _answer(self, number: int, ask: Chat | Generate, of: Of | None) -> None:
        with self._preparing:
            if number not in self._cancelled:
                return
            model = self._variants.find(of)
            prompt, answer = tasks.answer(model, ask, self._variants.adapters(model, ask.lora))
        self._write([Prompted(number, prompt.tokens, prompt.dropped)])
        if self._may_run(number, answer):
            self._answers.begin(number, answer, self._forget)

    def _forget(self, number: int) -> None:
        with self._lock:
            self._cancelled.pop(number, None)

    def _may_run(self, number: int, answer: Answer) -> bool:
        """Whether a job was not cancelled yet; from now on cancelling ends its answer."""
        with self._lock:
            if number not in self._cancelled:
                return False
            self._cancelled[number] = answer.cancel
            return True


def main() -> None:
    """Reads frames until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle, which closes the pipes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    write = _writer(sink)
    sys.setswitchinterval(SWITCH_SECONDS)
    load = to_worker.decode(read_frame(source) or b"")
    if not isinstance(load, Load):
        raise RequestError(f"worker: the first message is {type(load).__name__}; Load works")
    try:
        model = _opened(load)
    except Exception as error:
        write([failed(0, error)])
        return
    write([Ready(model.context_length, model.encoder, model.backend_choice)])
    worker = Worker(model, write)
    threading.Thread(target=worker.prepare_formats, name="formats", daemon=True).start()
    serve(source, worker)
    os._exit(0)  # threads may be in the middle of a step


def _opened(load: Load) -> Model:
    from puna.loading import load as open_model

    model = open_model(load.model, **load.options)
    model.prepare()
    return model


def serve(source: BinaryIO, worker: Worker) -> None:
    """Does what frames say until there are no more."""
    while (body := read_frame(source)) is not None:
        match to_worker.decode(body):
            case Job() as job:
                worker.begin(job)
            case Cancel(number):
                worker.cancel(number)


def _writer(sink: BinaryIO) -> Callable[[Iterable[FromWorker]], None]:
    lock = threading.Lock()

    def write(messages: Iterable[FromWorker]) -> None:
        data = memoryview(b"".join(map(frame, messages)))
        with lock:
            while data:
                data = data[sink.write(data) :]

    return write


if __name__ == "__main__":
    main()
