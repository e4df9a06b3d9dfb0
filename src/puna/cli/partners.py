"""Whom a conversation is with: a model in this process, or one that a running server has. Both are asked the same.

It knows requests and chunks, not what is typed or printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from puna.errors import PunaError, RequestError

if TYPE_CHECKING:
    from puna.cli.places import Listed
    from puna.cli.remote import Server
    from puna.generation import Chunk, Stats
    from puna.model import Model
    from puna.worker.requests import Chat, Generate


@dataclass(frozen=True, slots=True)
class Running:
    """How a model runs: the backend and why that, and how many positions a sequence may have."""

    backend: str
    context_length: int


class Partner(Protocol):
    """What a conversation asks of a model, which is called `name`."""

    @property
    def name(self) -> str:
        """What the model is called."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the model is, as `/api/show` tells it."""

    @property
    def running(self) -> Running:
        """How it runs."""

    def prepare(self) -> None:
        """Load it now, rather than with the first question."""

    def answer(self, ask: Chat | Generate) -> Iterator[Chunk]:
        """The answer as it comes, at last with figures; closing it ends the work."""

    def save(self, name: str, parts: Mapping[str, Any]) -> None:
        """Make a model of this one with `parts` of a create request: system, parameters, messages."""

    def listed(self) -> Iterable[Listed]:
        """The models there are where it is."""


class Local:
    """A model in this process; one that is asked for with a longer context is loaded again."""

    def __init__(self, name: str, model: Model | None = None, **load_options: Any) -> None:
        from puna.loading import load

        self.name = name
        self.model = model or load(name, **load_options)
        self._load_options = load_options
        _ = self.model.backend  # what it has to say about a missing one comes before anything is asked

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """Read from its headers."""
        from puna.facts import facts

        return facts(self.model.opened)

    @property
    def running(self) -> Running:
        """Here and now."""
        return Running(self.model.backend_choice, self.model.context_length)

    def prepare(self) -> None:
        """Take the weights in."""
        self.model.prepare()

    def answer(self, ask: Chat | Generate) -> Iterator[Chunk]:
        """As the server's worker would; weights may come in while the prompt becomes tokens."""
        from puna.cli.progress import loading
        from puna.loading import load
        from puna.worker.tasks import answer

        if not getattr(ask, "raw", False):
            self._settle_thinking(ask)
        if int((ask.options or {}).get("num_ctx") or 0) > self.model.context_length:
            self._load_options["context_length"] = (ask.options or {})["num_ctx"]
            self.model = load(self.name, **self._load_options)
        self.model.prepare(loading(), wait=False)
        return answer(self.model, ask)[1]

    def _settle_thinking(self, ask: Chat | Generate) -> None:
        """As the server does: a model that can think does, unless it is told not to."""
        able = "thinking" in self.facts["capabilities"]
        if ask.think and not able:
            raise RequestError(f"{self.name!r} does not support thinking")
        if ask.think is None and able:
            ask.think = True

    def save(self, name: str, parts: Mapping[str, Any]) -> None:
        """In the store of this machine."""
        from pathlib import Path

        from puna.create.build import create
        from puna.create.modelfile import Command, Modelfile
        from puna.store import Store
        from puna.store.reference import is_path

        source = str(Path(self.name).expanduser().resolve()) if is_path(self.name) else self.name
        commands: list[Command] = [("from", source)]
        commands += [("system", parts["system"])] if parts.get("system") else []
        for option, value in parts.get("parameters", {}).items():
            items = value if isinstance(value, list) else [value]
            commands += [("parameter", (option, str(item))) for item in items]
        commands += [("message", (each["role"], each["content"])) for each in parts.get("messages", ())]
        create(Store(), name, Modelfile(commands))

    def listed(self) -> Iterable[Listed]:
        """Those of this machine."""
        from puna.cli.places import Here

        return Here().listed()


class Remote:
    """A model of a running server, by its name there."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self._server = server

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What the server says."""
        shown: dict[str, Any] = self._server.ask("POST", "/api/show", {"model": self.name})
        return shown

    @property
    def running(self) -> Running:
        """As the server has loaded it; nothing is known of one that it has not."""
        loaded = self._server.loaded(self.name) or {}
        backend = f"{loaded.get('backend', 'unknown')} at {self._server}"
        return Running(backend, int(loaded.get("context_length", 0)))

    def prepare(self) -> None:
        """Have the server load it."""
        self._server.ask("POST", "/api/generate", {"model": self.name})

    def answer(self, ask: Chat | Generate) -> Iterator[Chunk]:
        """As the server streams it."""
        import msgspec

        body = msgspec.to_builtins(ask) | {"model": self.name, "stream": True}
        path = f"/api/{body.pop('ask')}"
        return self._chunks(path, body)

    def _chunks(self, path: str, body: Mapping[str, Any]) -> Iterator[Chunk]:
        """What it streams; until that comes of a model that it has not loaded, a terminal says what is waited for."""
        from puna.cli.progress import waiting

        with waiting(self._loads) as came:
            for line in self._server.stream(path, body):
                came()
                yield _chunk(line)

    def _loads(self) -> bool:
        """Whether the server has still to load it; what goes wrong is said of the answer."""
        try:
            return self._server.loaded(self.name) is None
        except PunaError:
            return False

    def save(self, name: str, parts: Mapping[str, Any]) -> None:
        """In the store of the server."""
        wanted = {"model": name, "from": self.name, "stream": False, **parts}
        self._server.ask("POST", "/api/create", wanted)

    def listed(self) -> Iterable[Listed]:
        """Those of the server."""
        from puna.cli.places import There

        return There(self._server).listed()


def _chunk(line: Mapping[str, Any]) -> Chunk:
    """A piece of an answer as `/api/chat` and `/api/generate` write it."""
    from puna.generation import Chunk
    from puna.template import ToolCall

    said = line.get("message") or line
    calls = tuple(ToolCall.from_dict(call) for call in said.get("tool_calls", ()))
    return Chunk(
        text=said.get("content") or said.get("response") or "",
        thinking=said.get("thinking") or "",
        tool_calls=calls,
        done=bool(line.get("done")),
        done_reason=line.get("done_reason"),
        stats=_stats(line) if "eval_count" in line else None,
    )


def _stats(line: Mapping[str, Any]) -> Stats:
    from puna.generation import Stats

    def seconds(name: str) -> float:
        return float(line.get(f"{name}_duration", 0)) / 1e9

    return Stats(
        load_seconds=seconds("load"),
        prompt_tokens=int(line.get("prompt_eval_count", 0)),
        cached_tokens=int(line.get("prompt_cached_count", 0)),
        prompt_seconds=seconds("prompt_eval"),
        tokens=int(line["eval_count"]),
        seconds=seconds("eval"),
        proposed_tokens=int(line.get("proposed_count", 0)),
        accepted_tokens=int(line.get("accepted_count", 0)),
    )


def find_partner(name: str, load_options: Mapping[str, Any], *, local: bool = False) -> tuple[Partner, Sequence[str]]:
    """A running server's model of that name, else one in this process; and what is to be said of the choice.

    `local` keeps to this process; `load_options` are for that, but for the context's length.
    """
    from puna.store.reference import is_path

    if local or is_path(name):
        return Local(name, **load_options), ()
    from puna.cli.remote import find_host

    server, notes = find_host(name)
    return (Remote(name, server) if server else Local(name, **load_options)), notes
