"""Who is next: so many at once, a bounded number waiting, and every client in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from puna.server.errors import Refused

RETRY_SECONDS = 1


class Turns:
    """`count` turns at once; at most `waiting` may wait, those of one client behind each other."""

    def __init__(self, count: int, waiting: int) -> None:
        self._free = count
        self._most = waiting
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # by client, the one whose turn is next foremost

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._lines.values())

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncGenerator[None, None]:
        """Hold a turn; Refused with 503 where too many wait already."""
        await self._wait(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        if self.waiting >= self._most:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise Refused(503, f"the server is busy: {self.waiting} requests wait for this model; try again", headers)
        mine = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # it came at the same moment
            else:
                self._leave(client, mine)
            raise

    def _leave(self, client: str, mine: asyncio.Future[None]) -> None:
        line = self._lines[client]
        line.remove(mine)
        if not line:
            del self._lines[client]

    def _pass_on(self) -> None:
        """Give a turn to the client who waits longest since its last, or keep it free."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            del self._lines[client]
            first = line.popleft()
            if line:
                self._lines[client] = line  # behind all others
            if not first.done():
                first.set_result(None)
                return
        self._free += 1
