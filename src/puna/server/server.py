"""What every API asks for: a model by its name, an answer in pieces, a value. It knows no protocol."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from puna.errors import InvalidName
from puna.facts import capabilities
from puna.generation import Chunk
from puna.machine.memory import free_memory
from puna.opened import Opened
from puna.server import catalog
from puna.server.durations import parse_duration
from puna.server.errors import Refused
from puna.server.metrics import Metrics
from puna.server.models import Models, Wanted
from puna.server.settings import Settings
from puna.server.storage import Storage
from puna.store.name import ModelName
from puna.worker.client import Failure, Said, Untaken
from puna.worker.protocol import Prompted
from puna.worker.requests import Addressed, Answering, Ask, Chat, Decide, Embed, Generate, Of

ROLES = ("system", "user", "assistant", "tool")
THINKING = ("low", "medium", "high", "max")


@dataclass(slots=True)
class Server:
    """Settings, the models that are loaded, and answers that clients may come back to."""

    settings: Settings
    models: Models = field(init=False)
    responses: Storage = field(default_factory=Storage)
    completions: Storage = field(default_factory=lambda: Storage(kind="chat completion"))
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.models = Models(self.settings, free_memory)

    async def wanted(self, ask: Addressed) -> Wanted:
        """The model that a request is for; Refused with 404 where there is none."""
        if not ask.model:
            raise Refused(400, "model is required")
        entry = await asyncio.to_thread(catalog.entry, ask.model)
        opened = await asyncio.to_thread(catalog.opened, str(entry.name), entry.digest)
        length = _context_length(ask)
        most = opened.metadata.get(f"{opened.metadata.get('general.architecture')}.context_length") or length
        length = min(length, int(most))
        size = await asyncio.to_thread(catalog.expected_bytes, opened, self.settings, length)
        weights = await asyncio.to_thread(catalog.weights_of, entry)
        return Wanted(entry.name.short, entry.digest, size, length, weights)

    async def _find_adapters(self, ask: Answering | Embed | Decide, wanted: Wanted) -> None:
        """Note which models' adapters a request means; Refused where those are of other weights."""
        for lora in ask.lora or ():
            lora.of = None
            if not lora.model:
                continue
            other = await asyncio.to_thread(catalog.entry, lora.model)
            files = " ".join(layer.digest for layer in other.manifest.all("model"))
            if not other.manifest.all("adapter") or not f"{wanted.weights} ".startswith(f"{files} "):
                raise Refused(400, f"lora: {lora.model!r} has no adapters for the weights of {ask.model!r}")
            lora.of = Of(other.name.short, other.digest)

    async def check(self, ask: Answering) -> None:
        """Refused where the model cannot do what is asked, or what is asked makes no sense.

        A request that says nothing of thinking is put to a model that can as one that wants it, as Ollama does.
        """
        if ask.top_logprobs is not None and not 0 <= ask.top_logprobs <= 20:
            raise Refused(400, "top_logprobs must be between 0 and 20")
        if isinstance(ask.think, str) and ask.think not in THINKING:
            raise Refused(400, f"think is {ask.think!r}; true, false, {', '.join(THINKING)} would work")
        entry = await asyncio.to_thread(catalog.entry, ask.model)
        opened = await asyncio.to_thread(catalog.opened, str(entry.name), entry.digest)
        able = capabilities(opened)
        if isinstance(ask, Chat):
            _check_roles(ask, opened)
        for wanted, capability in _needed(ask):
            if wanted and capability not in able:
                raise Refused(400, f"{ask.model!r} does not support {capability}")
        if ask.think is None and "thinking" in able:
            ask.think = True

    async def load(self, ask: Addressed) -> float:
        """Load a model that is asked nothing yet; the seconds that took."""
        begun = time.monotonic()
        async with self.models.lease(await self.wanted(ask), keep_alive(ask)):
            return time.monotonic() - begun

    async def unload(self, ask: Addressed) -> None:
        """Unload a model, if it is loaded; Refused with 404 where there is none such, nor was when it was loaded."""
        names = [model.wanted.name for model in self.models.loaded]
        loaded = next((name for name in names if same_name(name, ask.model)), None)
        await self.models.unload(loaded or (await self.wanted(ask)).name)

    async def answer(self, ask: Chat | Generate, client: str) -> AsyncGenerator[Prompted | Chunk, None]:
        """What the prompt came to, and the answer as it comes, at last with figures. Closing it ends the work."""
        wanted, begun, waited = await self.wanted(ask), time.monotonic(), 0.0
        await self._find_adapters(ask, wanted)
        async with aclosing(self._said(ask, wanted, keep_alive(ask), client)) as said:
            async for part in said:
                if isinstance(part, dict):
                    raise Failure("Bug", "the model's process gave a value instead of an answer")
                waited = waited or time.monotonic() - begun
                if isinstance(part, Chunk) and part.stats:
                    stats = replace(part.stats, load_seconds=waited)
                    self.metrics.answered(wanted.name, stats, time.monotonic() - begun)
                    part = replace(part, stats=stats)
                yield part

    async def value(self, ask: Ask, client: str) -> dict[str, Any]:
        """What a worker gives for a request that is not answered in pieces."""
        if not isinstance(ask, Addressed):
            raise Refused(400, "the request names no model")
        wanted, keep = await self.wanted(ask), keep_alive(ask)
        if isinstance(ask, Embed | Decide):
            await self._find_adapters(ask, wanted)
        async with aclosing(self._said(ask, wanted, keep, client)) as said:
            async for value in said:
                if isinstance(value, dict):
                    return value
        raise Failure("Bug", "the model's process gave no value")

    async def _said(self, ask: Ask, wanted: Wanted, keep: float | None, client: str) -> AsyncGenerator[Said, None]:
        """What a worker says; another one is asked where the first ended before it got the request."""
        while True:
            try:
                async with self.models.lease(wanted, keep) as model, model.turns.turn(client):
                    of = Of(wanted.name, wanted.digest) if wanted.weights else None
                    async with aclosing(model.worker.ask(ask, of)) as said:
                        async for part in said:
                            yield part
                    return
            except Untaken:
                continue


def same_name(one: str, other: str) -> bool:
    """Whether two texts name one model; what is no name names none."""
    try:
        return ModelName.parse(one).matches(ModelName.parse(other))
    except InvalidName:
        return False


def _context_length(ask: Addressed) -> int:
    """What a request says it needs, 0 where it says nothing."""
    length = (ask.options or {}).get("num_ctx")
    if length is not None and (type(length) is not int or length < 0):
        raise Refused(400, f"option 'num_ctx' is {length!r}; a whole number above 0 would work")
    return length or 0


def keep_alive(ask: Addressed) -> float | None:
    """Seconds that a request wants its model kept; None where it says nothing."""
    return None if ask.keep_alive is None else parse_duration(ask.keep_alive)


def _check_roles(ask: Chat, opened: Opened) -> None:
    """Refused for a role that is none of those all models know, unless the model's template has it by name."""
    template = f"{opened.template or ''}{opened.metadata.get('tokenizer.chat_template') or ''}"
    for number, message in enumerate(ask.messages or []):
        role = message.get("role")
        if role not in ROLES and not (isinstance(role, str) and re.search(rf"[\"']{re.escape(role)}[\"']", template)):
            raise Refused(400, f"message {number}: role is {role!r:.40}; {', '.join(ROLES)} would work")


def _needed(ask: Answering) -> list[tuple[object, str]]:
    tools = isinstance(ask, Chat) and ask.tools
    suffix = isinstance(ask, Generate) and not ask.raw and ask.suffix
    plain = isinstance(ask, Generate) and ask.raw
    return [(True, "completion"), (ask.think and not plain, "thinking"), (tools, "tools"), (suffix, "insert")]
