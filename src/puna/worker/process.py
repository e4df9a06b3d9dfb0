"""The worker's end of the line: `python -m puna.worker.process`, one model, a thread for each job.

Frames come on standard input and leave on what was standard output; whatever else prints goes to standard error. The
process ends when its input does, so it never outlives the server.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from puna.errors import PromptTooLong, PunaError, RequestError
from puna.worker import tasks
from puna.worker.protocol import (
    Cancel,
    Ended,
    Failed,
    FromWorker,
    Given,
    Job,
    Load,
    Prompted,
    Ready,
    Spoken,
    frame,
    read_frame,
    to_worker,
)
from puna.worker.requests import Chat, Generate

if TYPE_CHECKING:
    from puna.generation import Answer
    from puna.model import Model


class Worker:
    """Jobs on one open model. Answers are written as they come, by the threads that make them."""

    def __init__(self, model: Model, write: Callable[[FromWorker], None]) -> None:
        self._model = model
        self._write = write
        self._lock = threading.Lock()
        self._cancelled: dict[int, Callable[[], None] | None] = {}  # of jobs under way: how to end each

    def begin(self, job: Job) -> None:
        """Start a job in a thread of its own."""
        with self._lock:
            self._cancelled[job.number] = None
        threading.Thread(target=self._run, args=(job,), name=f"job {job.number}", daemon=True).start()

    def cancel(self, number: int) -> None:
        """End a job, wherever it is."""
        with self._lock:
            end = self._cancelled.pop(number, None)
        if end:
            end()

    def _run(self, job: Job) -> None:
        try:
            for message in self._messages(job):
                self._write(message)
        except Exception as error:
            self._write(failed(job.number, error))
        else:
            self._write(Ended(job.number))
        finally:
            with self._lock:
                self._cancelled.pop(job.number, None)

    def _messages(self, job: Job) -> Iterator[FromWorker]:
        if not isinstance(job.ask, Chat | Generate) or type(job.ask) in tasks.VALUES:
            yield Given(job.number, tasks.VALUES[type(job.ask)](self._model, job.ask))
            return
        prompt, answer = tasks.answer(self._model, job.ask)
        yield Prompted(job.number, prompt.tokens, prompt.dropped)
        if self._may_run(job.number, answer):
            for chunk in answer:
                yield Spoken(job.number, chunk)

    def _may_run(self, number: int, answer: Answer) -> bool:
        """Whether a job was not cancelled yet; from now on cancelling ends its answer."""
        with self._lock:
            if number not in self._cancelled:
                return False
            self._cancelled[number] = answer.cancel
            return True


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


def main() -> None:
    """Reads frames until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle, which closes the pipes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    write = _writer(sink)
    load = to_worker.decode(read_frame(source) or b"")
    if not isinstance(load, Load):
        raise RequestError(f"worker: the first message is {type(load).__name__}; Load works")
    try:
        model = _opened(load)
    except Exception as error:
        write(failed(0, error))
        return
    write(Ready(model.context_length, model.encoder, model.backend))
    serve(source, Worker(model, write))
    os._exit(0)  # threads may be in the middle of a step


def _opened(load: Load) -> Model:
    from puna.model import load as open_model

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


def _writer(sink: BinaryIO) -> Callable[[FromWorker], None]:
    lock = threading.Lock()

    def write(message: FromWorker) -> None:
        data = memoryview(frame(message))
        with lock:
            while data:
                data = data[sink.write(data) :]

    return write


if __name__ == "__main__":
    main()
