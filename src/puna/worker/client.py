"""The server's end of the line: a worker process, and what it says, job by job. For one event loop."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from puna.generation import Chunk
from puna.worker.protocol import (
    Cancel,
    Ended,
    Failed,
    Frames,
    Given,
    Job,
    Load,
    Prompted,
    Ready,
    Spoken,
    frame,
    from_worker,
)
from puna.worker.requests import Ask, Of

Said = Prompted | Chunk | dict[str, Any]
"""What a worker says of a job: an answer's prompt and pieces, or a value."""

LOAD_SECONDS = 300.0
"""How long loading may take."""

READ = 1 << 18
"""Bytes that are read at once."""


class Failure(Exception):
    """An error of a worker's: the name of the exception class there, and what it says."""

    def __init__(self, kind: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.details = dict(details or {})


class Untaken(Failure):
    """A worker ended before it got a request, which another one can answer."""

    def __init__(self) -> None:
        super().__init__("WorkerDied", "the model's process ended before it got the request; ask again")


class Client:
    """A worker that is ready. When its process ends, every job under way fails, and so does every later one."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready, frames: Frames) -> None:
        self.ready = ready
        self.pid = process.pid
        self._process = process
        self._frames = frames
        self._numbers = itertools.count(1)
        self._jobs: dict[int, asyncio.Queue[Said | Failure | None]] = {}
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        """Whether jobs can be given to it."""
        return not self._ended

    @property
    def jobs(self) -> int:
        """Jobs under way."""
        return len(self._jobs)

    async def ask(self, ask: Ask, of: Of | None = None) -> AsyncGenerator[Said, None]:
        """What the model says to a request, as it comes. Closing the iterator ends the job; raises Failure, Untaken.

        `of`: the model that is asked, where the worker answers for several.
        """
        if not self.alive:
            raise Untaken
        number, heard = next(self._numbers), asyncio.Queue[Said | Failure | None]()
        self._jobs[number] = heard
        try:
            await self._send(frame(Job(number, ask, of)))
            while (message := await heard.get()) is not None:
                if isinstance(message, Failure):
                    raise message
                yield message
        finally:
            if self._jobs.pop(number, None) is not None and self.alive:
                self._process.stdin.write(frame(Cancel(number)))  # type: ignore[union-attr]

    async def stop(self, grace: float = 5.0) -> None:
        """End the process: it leaves when its input closes, and is killed if it does not."""
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _send(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)  # type: ignore[union-attr]
            await self._process.stdin.drain()  # type: ignore[union-attr]
        except ConnectionError as error:
            self._ended = True
            raise Untaken from error

    async def _read(self) -> None:
        """Hands what comes to who waits for it, until the process ends."""
        with suppress(ConnectionError):
            while data := await self._process.stdout.read(READ):  # type: ignore[union-attr]
                for body in self._frames.push(data):
                    self._hear(from_worker.decode(body))
        self._ended = True
        await self._process.wait()
        for heard in self._jobs.values():
            heard.put_nowait(_died(self._process))

    def _hear(self, message: Any) -> None:
        heard = self._jobs.get(message.number)
        if heard is None:
            return  # cancelled meanwhile
        match message:
            case Prompted():
                heard.put_nowait(message)
            case Spoken(_, chunk):
                heard.put_nowait(chunk)
            case Given(_, value):
                heard.put_nowait(value)
            case Failed(number):
                del self._jobs[number]
                heard.put_nowait(_failure(message))
            case Ended(number):
                del self._jobs[number]
                heard.put_nowait(None)


async def start(model: str, options: Mapping[str, Any], *, seconds: float = LOAD_SECONDS) -> Client:
    """A worker with a model, loaded; Failure where that goes wrong or takes more than so many seconds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "puna.worker.process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal goes to the server alone
    )
    frames = Frames()
    try:
        process.stdin.write(frame(Load(model, dict(options))))  # type: ignore[union-attr]
        first = from_worker.decode(await asyncio.wait_for(_first(process, frames), seconds))
        if not isinstance(first, Ready):
            raise _failure(first)
    except BaseException as error:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            late = f"loading {model} took more than {seconds:.0f} s; PUNA_LOAD_TIMEOUT allows more"
            raise Failure("LoadTimeout", late) from error
        if isinstance(error, ConnectionError):
            raise _died(process) from error
        raise
    return Client(process, first, frames)


def _failure(message: Any) -> Failure:
    if isinstance(message, Failed):
        return Failure(message.kind, message.message, message.details)
    return Failure("Bug", f"the model's process began with {type(message).__name__}")


async def _first(process: asyncio.subprocess.Process, frames: Frames) -> bytes:
    """The first message, behind which nothing comes until there is a job."""
    while data := await process.stdout.read(READ):  # type: ignore[union-attr]
        if found := frames.push(data):
            return found[0]
    raise ConnectionError


def _died(process: asyncio.subprocess.Process) -> Failure:
    status = process.returncode or 0
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return Failure("WorkerDied", f"the model's process ended ({how}) before the answer was complete; ask again")
