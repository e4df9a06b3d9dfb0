"""A lock that goes to who has waited longest: one who takes it again and again does not keep the others out."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """As threading.Lock. Trying without waiting never waits, not even in the midst of another call of the thread's."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._line: deque[threading.Lock] = deque()  # each is let go of when its owner's turn has come
        self._held = False

    def acquire(self, blocking: bool = True) -> bool:
        """Take it; whether that was possible, where it is not waited for."""
        if not self._inner.acquire(blocking):
            return False
        try:
            if not self._held:
                self._held = True
                return True
            if not blocking:
                return False
            mine = threading.Lock()
            mine.acquire()
            self._line.append(mine)
        finally:
            self._inner.release()
        self._wait(mine)
        return True

    def _wait(self, mine: threading.Lock) -> None:
        try:
            mine.acquire()
        except BaseException:  # Ctrl-C
            with self._inner:
                waiting = mine in self._line
                if waiting:
                    self._line.remove(mine)
            if not waiting:
                self.release()
            raise

    def release(self) -> None:
        """Hand it to the next."""
        with self._inner:
            if self._line:
                self._line.popleft().release()
            else:
                self._held = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
