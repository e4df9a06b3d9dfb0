"""Which models are loaded: loading them, keeping them for a while, and unloading those that others need room from.

A request leases a model; one that nobody leases is unloaded when its time is over, or when another one needs its
memory or its place. It knows no API.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from puna.server.errors import Refused
from puna.server.settings import Settings
from puna.server.turns import Turns
from puna.worker import client as workers
from puna.worker.client import Client, Failure

_log = logging.getLogger("puna.server")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model as a request names it: `name` for people, `digest` of what it is now, and how to load it.

    One worker answers for all that have the same `weights`, if that is not empty.
    """

    name: str
    digest: str
    size: int  # bytes of memory it is expected to take
    context_length: int = 0  # 0: as the model has it
    weights: str = ""


@dataclass(slots=True, eq=False)
class Loaded:
    """A model in a worker, which others may be in as well.

    `leases` are the requests that use it, and `expires` is when it goes without any.
    """

    wanted: Wanted
    worker: Client
    turns: Turns
    keep_alive: float
    leases: int = 0
    expires: float = 0.0
    used: float = field(default_factory=time.monotonic)
    load_seconds: float = 0.0

    @property
    def expires_at(self) -> float:
        """When it will be unloaded, as seconds since 1970, if nobody asks until then."""
        return time.time() + max((self.keep_alive if self.leases else self.expires - time.monotonic()), 0.0)


Start = Callable[[str, dict[str, Any]], Awaitable[Client]]


class Models:
    """The models that are loaded. All of it happens in one event loop."""

    def __init__(self, settings: Settings, free_memory: Callable[[], int], start: Start | None = None) -> None:
        self._settings = settings
        self._free = free_memory
        self._start = start or self._started
        self._loaded: dict[str, Loaded] = {}
        self._loading = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def loaded(self) -> list[Loaded]:
        """Those that are ready, the last used first."""
        return sorted(self._loaded.values(), key=lambda model: -model.used)

    @asynccontextmanager
    async def lease(self, wanted: Wanted, keep_alive: float | None = None) -> AsyncGenerator[Loaded, None]:
        """The model, loaded now if need be; it stays while this is held, and `keep_alive` seconds longer."""
        model = await self._ready(wanted)
        model.leases += 1
        try:
            yield model
        finally:
            model.leases -= 1
            model.keep_alive = self._settings.keep_alive if keep_alive is None else keep_alive
            model.used = time.monotonic()
            model.expires = model.used + model.keep_alive
            if model.leases == 0 and (model.keep_alive == 0 or not model.worker.alive):
                self._unload(model)
            async with self._changed:
                self._changed.notify_all()

    async def _ready(self, wanted: Wanted) -> Loaded:
        if model := self._fitting(wanted):
            return model
        async with self._loading:
            if model := self._fitting(wanted):  # loaded by who was before us
                return model
            if old := self._loaded.get(wanted.name):
                await self._idle(old)
                self._unload(old)
            if other := self._like(wanted):
                return self._enter(wanted, other.worker, other.turns)
            await self._make_room(wanted)
            return await self._load(wanted)

    def _fitting(self, wanted: Wanted) -> Loaded | None:
        """The model as it is loaded, if that will do."""
        model = self._loaded.get(wanted.name)
        return model if model and model.wanted.digest == wanted.digest and _is_enough(model, wanted) else None

    def _like(self, wanted: Wanted) -> Loaded | None:
        """One of the same weights, whose worker will do."""
        same = (model for model in self._loaded.values() if wanted.weights and model.wanted.weights == wanted.weights)
        return next((model for model in same if _is_enough(model, wanted)), None)

    async def _load(self, wanted: Wanted) -> Loaded:
        begun = time.monotonic()
        options: dict[str, Any] = {"backend": self._settings.backend, "kv_type": self._settings.kv_type}
        if length := wanted.context_length or self._settings.context_length:
            options["context_length"] = length
        if wanted.weights:
            options["apart"] = True
        worker = await self._start(wanted.name, options)
        model = self._enter(wanted, worker, Turns(self._settings.parallel, self._settings.queue))
        model.load_seconds = time.monotonic() - begun
        return model

    def _enter(self, wanted: Wanted, worker: Client, turns: Turns) -> Loaded:
        model = Loaded(wanted, worker, turns, self._settings.keep_alive)
        model.expires = model.used + model.keep_alive
        self._loaded[wanted.name] = model
        _log.info("loaded %s, process %d", wanted.name, worker.pid)
        return model

    async def _started(self, name: str, options: dict[str, Any]) -> Client:
        return await workers.start(name, options, seconds=self._settings.load_timeout)

    async def _make_room(self, wanted: Wanted) -> None:
        """Unload what is idle, the longest unused first, until there is room; Refused where there never will be."""
        while True:
            await self._gone()
            crowded = len(self._sizes()) >= max(self._settings.models, 1)
            if not crowded and wanted.size <= self._room():
                return
            if not self._loaded:
                raise Refused(507, f"{_needs(wanted, self._room())}; a smaller model, or a shorter context, would work")
            idle = [model for model in self._loaded.values() if model.leases == 0]
            if idle:
                self._unload(min(idle, key=lambda model: model.used))
                continue
            async with self._changed:
                await self._changed.wait()

    def _room(self) -> int:
        """Bytes that one more model may take."""
        if self._settings.memory:
            return self._settings.memory - sum(self._sizes().values())
        return self._free()

    def _sizes(self) -> dict[Client, int]:
        """What each worker is expected to take."""
        sizes: dict[Client, int] = {}
        for model in self._loaded.values():
            sizes[model.worker] = max(model.wanted.size, sizes.get(model.worker, 0))
        return sizes

    async def _idle(self, model: Loaded) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: model.leases == 0)

    def _unload(self, model: Loaded) -> None:
        if self._loaded.get(model.wanted.name) is model:
            del self._loaded[model.wanted.name]
            _log.info("unloading %s", model.wanted.name)
            if any(other.worker is model.worker for other in self._loaded.values()):
                return
            task = asyncio.ensure_future(model.worker.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _gone(self) -> None:
        """Until what was unloaded has given its memory back."""
        if self._leaving:
            await asyncio.wait(list(self._leaving))

    async def unload(self, name: str) -> bool:
        """Unload a model when its last request is answered; False where it is not loaded."""
        model = self._loaded.get(name)
        if model is None:
            return False
        await self._idle(model)
        self._unload(model)
        return True

    async def expire(self, every: float = 0.1) -> None:
        """Unloads models whose time is over, and those whose process has ended, for as long as this runs."""
        while True:
            now = time.monotonic()
            for model in list(self._loaded.values()):
                if model.leases == 0 and (model.expires <= now or not model.worker.alive):
                    self._unload(model)
            await asyncio.sleep(every)

    async def close(self) -> None:
        """End every worker."""
        for model in list(self._loaded.values()):
            self._unload(model)
        with suppress(Failure):
            await self._gone()


def _is_enough(model: Loaded, wanted: Wanted) -> bool:
    """Whether a model's worker can do what is wanted of one with its weights."""
    return model.worker.alive and wanted.context_length <= model.worker.ready.context_length


def _needs(wanted: Wanted, room: int) -> str:
    return f"loading {wanted.name}: it needs about {wanted.size >> 20} MiB, and {max(room, 0) >> 20} MiB are free"
