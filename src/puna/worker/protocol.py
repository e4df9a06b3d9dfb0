"""The line between a server and a worker: frames on two pipes, MessagePack behind four bytes of length.

    to the worker      Load, first and once;  Job(number, ask);  Cancel(number)
    from the worker    Ready or Failed about loading;  then for a job Prompted and Spoken*, or
                       Given, and at last Ended or Failed

Knows no model.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from msgspec import Struct, field, msgpack

from puna.errors import RequestError
from puna.generation import Chunk
from puna.worker.requests import Ask, Of


class Load(Struct, tag=True, array_like=True):
    """What to open and how: the arguments of `puna.load`."""

    model: str
    options: dict[str, Any]


class Job(Struct, tag=True, array_like=True):
    """Work to do; jobs run side by side. `of`: which of the models that this process answers for is asked."""

    number: int
    ask: Ask
    of: Of | None = None


class Cancel(Struct, tag=True, array_like=True):
    """Nobody waits for this job any more."""

    number: int


class Ready(Struct, tag=True, array_like=True):
    """The model is open; `encoder` says that it does not generate."""

    context_length: int
    encoder: bool
    backend: str


class Prompted(Struct, tag=True, array_like=True):
    """What the answer that follows is to: the prompt's tokens, and how much of the request is not among them."""

    number: int
    tokens: list[int]
    dropped: dict[str, int]


class Spoken(Struct, tag=True, array_like=True):
    """A piece of an answer."""

    number: int
    chunk: Chunk


class Given(Struct, tag=True, array_like=True):
    """The value of work that is no answer in pieces."""

    number: int
    value: dict[str, Any]


class Ended(Struct, tag=True, array_like=True):
    """Nothing more comes for this job."""

    number: int


class Failed(Struct, tag=True, array_like=True):
    """What went wrong: the name of Puna's exception class, and what it says; 0 is loading."""

    number: int
    kind: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


ToWorker = Load | Job | Cancel
FromWorker = Ready | Prompted | Spoken | Given | Ended | Failed

LENGTH = 4
"""Bytes of a frame's length, the lowest first."""

_encoder = msgpack.Encoder()
to_worker = msgpack.Decoder(ToWorker)
from_worker = msgpack.Decoder(FromWorker)


def frame(message: ToWorker | FromWorker) -> bytes:
    """A message with its length before it; RequestError for a whole number that has no place in it."""
    try:
        body = _encoder.encode(message)
    except OverflowError as error:
        raise RequestError("a whole number is out of range; -2**63 to 2**64 - 1 would work") from error
    return len(body).to_bytes(LENGTH, "little") + body


class Frames:
    """Cuts what comes into the messages' bytes."""

    def __init__(self) -> None:
        self._held = bytearray()

    def push(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes."""
        self._held += data
        found, at = [], 0
        while len(self._held) - at >= LENGTH:
            end = at + LENGTH + int.from_bytes(self._held[at : at + LENGTH], "little")
            if end > len(self._held):
                break
            found.append(bytes(self._held[at + LENGTH : end]))
            at = end
        del self._held[:at]
        return found


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next message's bytes; None where the stream has ended."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    size = int.from_bytes(head, "little")
    body = stream.read(size)
    return body if len(body) == size else None
