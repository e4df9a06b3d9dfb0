"""An answer as who asked for it holds it: chunks that come, and ways to end them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

from puna.generation.chunk import Chunk

Begun = Callable[[Callable[[], None], Callable[[], None]], None]


class Answer(Iterator[Chunk]):
    """Chunks as they come, from `begin`, which gives None where there are none yet.

    It is given a function that takes the ways to end what it has begun and to wait for more. Closing it ends the
    generation; so does `cancel`, which any thread may call.
    """

    def __init__(self, begin: Callable[[Begun], Generator[Chunk | None, None, None]]) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self._wait: Callable[[], None] = lambda: None
        self._cancelled = False
        self._chunks = begin(self._begun)

    def __next__(self) -> Chunk:
        while (chunk := next(self._chunks)) is None:
            self._wait()
        return chunk

    def ready(self) -> Iterator[Chunk]:
        """The chunks that are there, for who computes steps of the model by itself; more may come after the next."""
        while (chunk := next(self._chunks, None)) is not None:
            yield chunk

    def close(self) -> None:
        """End it, from the thread that reads it."""
        self._chunks.close()

    def cancel(self) -> None:
        """End it now, or as soon as it begins; who reads it gets a last chunk with reason "cancelled"."""
        with self._lock:
            self._cancelled, end = True, self._end
        if end:
            end()

    def _begun(self, end: Callable[[], None], wait: Callable[[], None]) -> None:
        with self._lock:
            self._end, self._wait, cancelled = end, wait, self._cancelled
        if cancelled:
            end()
