"""A parallel stream of tensors to files: threads make pieces and write each where it belongs.

It knows pieces and places, no types. Memory is what the pieces being made take, whatever the model's size.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from puna.create.tensors import Piece
from puna.errors import ConversionError


class Job(NamedTuple):
    """A piece of tensor `name`, and the file and byte where its tensor begins."""

    name: str
    piece: Piece
    file: BinaryIO
    place: int


@dataclass
class _Line:
    """What the threads share: the jobs that are left, what was done, and whether to stop."""

    jobs: Iterator[Job]
    done: queue.SimpleQueue[tuple[str, int] | BaseException | None]
    lock: threading.Lock
    stopped: bool = False

    def take(self) -> Job | None:
        """The next job, or None where there is none."""
        with self.lock:
            return None if self.stopped else next(self.jobs, None)


def write_jobs(jobs: Iterator[Job], threads: int, done: Callable[[str, int], None]) -> None:
    """Make and write all pieces on `threads` threads; `done` is called here with a name and bytes, piece by piece.

    The first error stops the others and is raised, as is what `done` raises, once no thread works any more.
    """
    line = _Line(jobs, queue.SimpleQueue(), threading.Lock())
    workers = [threading.Thread(target=_work, args=(line,), name=f"convert-{i}") for i in range(threads)]
    for worker in workers:
        worker.start()
    try:
        working = threads
        while working:
            match line.done.get():
                case None:
                    working -= 1
                case BaseException() as error:
                    raise error
                case name, nbytes:
                    done(name, nbytes)
    finally:
        line.stopped = True
        for worker in workers:
            worker.join()


def _work(line: _Line) -> None:
    try:
        while job := line.take():
            write_piece(job)
            line.done.put((job.name, job.piece.nbytes))
        line.done.put(None)
    except BaseException as error:
        line.stopped = True
        line.done.put(error)


def write_piece(job: Job) -> None:
    """Make one piece and write it to its place."""
    piece = job.piece
    data = piece.make()
    if data.nbytes != piece.nbytes:
        raise ConversionError(f"converting to '{job.name}': {data.nbytes} bytes came, {piece.nbytes} were expected")
    view, at = data.reshape(-1).data.cast("B"), job.place + piece.start
    while view:
        written = _pwrite(job.file, view, at)
        view, at = view[written:], at + written
    del view, data
    piece.release()


_SEEKING = threading.Lock()


def _pwrite(file: BinaryIO, data: memoryview, at: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file.fileno(), data, at)
    with _SEEKING:  # Windows
        file.seek(at)
        return file.write(data)
