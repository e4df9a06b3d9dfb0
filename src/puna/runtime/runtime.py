"""An opened model made to run: its architecture, its weights in a backend, and the engines on them.

Each part is made when it is first needed. It knows token ids, not text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from puna.arch.binding import read_hparams
from puna.create.structure import find_built_like
from puna.dtypes import DTYPES, KV_TYPES
from puna.embedding import Embedding, embedding_of
from puna.errors import GraphError, ModelError, RequestError
from puna.formats.gguf_kinds import no_model
from puna.opened import Opened
from puna.reranking import HEADS
from puna.runtime.adapting import Adapters

if TYPE_CHECKING:
    from puna.arch.base import Architecture, Hparams
    from puna.backends.base import Backend, Progress, Weights
    from puna.backends.choosing import Choice
    from puna.create.adapters.base import Base
    from puna.engine.adapters import Grafted
    from puna.engine.choosing import Chosen
    from puna.engine.draft import Draft
    from puna.engine.embedder import Embedder
    from puna.engine.engine import Engine
    from puna.engine.limits import Limits
    from puna.engine.reader import Reader
    from puna.engine.runner import Runner
    from puna.graph import Tensor

DEFAULT_CONTEXT = 8192
"""Positions, where neither the caller nor the model says less; memory for them is taken as they fill."""

SEQUENCES = 32
"""Sequences that one loaded model advances at once; they share the room of four contexts."""


class Runtime:
    """What runs a model. Several threads may ask for its parts."""

    def __init__(
        self, opened: Opened, *, backend: str, context_length: int | None, kv_type: str, threads: int | None
    ) -> None:
        if kv_type not in KV_TYPES:
            raise RequestError(f"loading: kv_type '{kv_type}' is unknown; known: {', '.join(KV_TYPES)}")
        self.opened = opened
        self._backend_name = backend
        self._kv_type = kv_type
        self._threads = threads or opened.params.get("num_thread") or None
        self._context_length = context_length
        self._making = threading.RLock()
        self._embedders: list[Embedder] = []  # one, once it is asked for
        self._progress: Progress | None = None
        self._begun = self.load_seconds = 0.0
        self.vocabulary = 0  # of a draft, the tokens that it has in common with the model
        self._adapters = Adapters()

    @cached_property
    def arch(self) -> Architecture:
        """The architecture that the file names."""
        name = self.opened.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise ModelError(f"{self.opened.source.name}: the file has no 'general.architecture'")
        with self._naming_source():
            return find_built_like(name, self.opened.tensors)

    @cached_property
    def hparams(self) -> Hparams:
        """The hyperparameters; ModelError where they contradict each other, the tensors or the vocabulary."""
        arch = self.arch  # which names the file itself
        with self._naming_source():
            return read_hparams(arch, self.opened.metadata, self.opened.tensors)

    @cached_property
    def context_length(self) -> int:
        """Positions a sequence may have; ModelError where the caller asks for more than the model was made for."""
        most = self.hparams.context_length
        wanted = self._context_length
        if wanted is None:
            return min(most, self.opened.params.get("num_ctx") or DEFAULT_CONTEXT)
        if not 0 < wanted <= most:
            raise ModelError(f"loading: context_length is {wanted}; this model was made for 1 to {most}")
        return wanted

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, as the file says or by the rows of its embedding."""
        if self.hparams.vocab_size:
            return self.hparams.vocab_size
        if "token_embd.weight" not in self.opened.tensors:
            raise ModelError(f"{self.arch.name}: the file has no tensor 'token_embd.weight'")
        return int(self.opened.tensors["token_embd.weight"].shape[0])

    @property
    def encoder(self) -> bool:
        """Whether it gives embeddings only."""
        hp = self.hparams
        with self._naming_source():
            return any(spec.encoder for spec in self.arch.caches(hp))

    @property
    def reads(self) -> bool:
        """Whether an encoder reads prompts, beside a decoder that answers."""
        return self.arch.encoder is not None

    @property
    def start(self) -> list[int]:
        """The tokens that an answer begins with, which its text does not have; ModelError where there are none such."""
        ids = self.arch.encoder.start(self.hparams) if self.arch.encoder else []
        if wrong := [i for i in ids if i >= self.vocab_size]:
            name, most = self.opened.source.name, self.vocab_size - 1
            raise ModelError(f"{name}: answers begin with token {wrong[0]}; ids run from 0 to {most}")
        return ids

    @property
    def ranks(self) -> bool:
        """Whether it is an encoder with a classifier of pairs."""
        return self.encoder and any(name in self.opened.tensors for name in HEADS)

    def checked(self, tokens: Sequence[int]) -> list[int]:
        """The same ids; RequestError where one is outside the vocabulary."""
        ids, size = [int(t) for t in tokens], self.vocab_size
        if wrong := [i for i in ids if not 0 <= i < size]:
            raise RequestError(f"token {wrong[0]} is outside the vocabulary; ids run from 0 to {size - 1}")
        return ids

    def check_reads_nothing(self, what: str) -> None:
        """RequestError for what an encoder-decoder does not do."""
        if self.reads:
            raise RequestError(
                f"{what}: '{self.arch.name}' is an encoder-decoder, which answers prompts; use generate()"
            )

    def check(self) -> None:
        """Raise what can be known without weights: of the file's kind, the backend's name, and adapters' headers."""
        if wrong := no_model(self.opened.source.name, self.opened.metadata):
            raise ModelError(wrong)
        if self._backend_name != "auto":
            _ = self.backend
        if self.opened.adapters:
            _ = self.grafted
        _ = self.opened.draft and self.draft

    def prepare(self, progress: Progress | None = None, *, wait: bool = True) -> None:
        """Take the weights in and compile now, rather than when they are first needed.

        Without `wait` the weights may still come in when this returns; `progress` is called by who waits for them.
        Once somebody waited, `load_seconds` is the time from the first call until all was ready.
        """
        self._begun = self._begun or time.perf_counter()
        self._progress = progress or self._progress
        _ = self.embedder if self.encoder else self.engine
        if wait:
            self._weights.finish()
            if self.draft:
                self.draft._weights.finish()
            self.load_seconds = self.load_seconds or time.perf_counter() - self._begun

    @contextmanager
    def _naming_source(self) -> Iterator[None]:
        """Puts the file's name in front of what is wrong with it."""
        try:
            yield
        except (ModelError, GraphError) as error:
            raise type(error)(f"{self.opened.source.name}: {error}") from error

    @cached_property
    def backend(self) -> Backend:
        """The backend that was asked for."""
        from puna.backends import open_backend

        return open_backend(self.choice.name, threads=self._threads)

    @cached_property
    def choice(self) -> Choice:
        """The name of the backend, and why it is that one if nobody asked for it."""
        from puna.backends.choosing import Choice, choose

        if self._backend_name != "auto":
            return Choice(self._backend_name, "")
        return choose(self.expected_bytes)

    @cached_property
    def _weights(self) -> Weights:
        return self.backend.load(self.grafted.weights, self._progress)

    @cached_property
    def grafted(self) -> Grafted:
        """The tensors and the weights, and what adapters change of them."""
        from puna.engine.adapters import graft

        if not self.opened.adapters:
            return graft(self.opened.tensors, ())
        from puna.create.adapters.base import open_adapter

        base = self._base
        return graft(base.tensors, [(open_adapter(path, base), factor) for path, factor in self.opened.adapters])

    @cached_property
    def _base(self) -> Base:
        from puna.create.adapters.base import Base

        return Base(self.opened.source, self.arch, self.hparams, self.opened.tensors)

    def add_adapter(self, name: str, path: str | PathLike[str]) -> None:
        """A LoRA adapter that sequences may have from now on, by a name that is new."""
        self._adapters.check_new(name)
        if self.reads:
            raise ModelError(f"adding the adapter {name}: '{self.arch.name}' takes adapters when it is loaded only")
        from puna.create.adapters.base import check_runs, open_adapter

        adapter = open_adapter(path, self._base)
        check_runs(adapter, self._base)
        with self._making:
            made = self.embedder if self.encoder else self._made_engine
            number = made.choosing.add(adapter)
            for other in () if self.encoder else self._embedders:
                other.choosing.add(adapter, number)
            self._adapters.named[name] = number, adapter

    def remove_adapter(self, name: str) -> None:
        """Let go of one that `add_adapter` brought; RequestError while an answer under way has it."""
        with self._making:
            self._adapters.check_known(name)
            number = self._adapters.named[name][0]
            made: list[Engine | Embedder] = [] if self.encoder else [self._made_engine]
            try:
                for each in (*made, *self._embedders):
                    each.drop(number)
            except RequestError as error:
                raise RequestError(f"removing the adapter {name!r}: {error}") from error
            del self._adapters.named[name]

    def like(self, opened: Opened) -> Runtime:
        """What runs another model on the same weights: in the same engine, with its adapters wherever none are chosen.

        Both are of one file of weights; ModelError for an adapter that sequences cannot have each for themselves.
        """
        self.prepare(wait=False)
        for path, _ in opened.adapters:
            if str(path) not in self._adapters.named:
                self.add_adapter(str(path), path)
        found = copy(self)
        found.opened = opened
        found._adapters = replace(self._adapters, always={str(path): factor for path, factor in opened.adapters})
        return found

    @property
    def own_adapters(self) -> list[str]:
        """The names of those that sequences have unless they choose, in the order of the model's file."""
        return [*self._adapters.always]

    def chosen(self, adapters: Mapping[str, float]) -> Chosen:
        """What the engine calls adapters of these names and factors, see `Adapters.chosen`."""
        return self._adapters.chosen(adapters)

    def engine_with(self, adapters: Mapping[str, float]) -> Engine:
        """What advances sequences, for who wants adapters of these names and factors."""
        with self._making:
            return self._made_engine.having(self.chosen(adapters))

    def embedder_with(self, adapters: Mapping[str, float]) -> Embedder:
        """What makes vectors of tokens, for who wants adapters of these names and factors."""
        with self._making:
            if not self._embedders:
                self._embedders.append(self._made_embedder())
            return self._embedders[0].having(self.chosen(adapters))

    def observer(self, limits: Limits, observe: Callable[[Tensor], Sequence[Tensor]]) -> Runner:
        """A runner for batches of these `limits` whose outputs are what `observe` finds in the graph."""
        return self._compiled(limits, observe=observe)

    def save_prefix(self, path: str | PathLike[str], tokens: Sequence[int]) -> None:
        """Write what stands for `tokens` to a file, see puna.engine.prefix."""
        from puna.engine.prefix import save_prefix

        save_prefix(self.engine, path, tokens, self._about)

    def load_prefix(self, path: str | PathLike[str]) -> list[int]:
        """Take what a file has of a beginning; its tokens."""
        from puna.engine.prefix import load_prefix

        return load_prefix(self.engine, path, self._about)

    @property
    def _about(self) -> dict[str, str]:
        """What K/V and memories depend on, by name."""
        adapters = ", ".join(f"{path.name} x {factor:g}" for path, factor in self.opened.adapters)
        return {"architecture": self.arch.name, "kv_type": self._kv_type, "adapters": adapters or "none"}

    def expected_bytes(self) -> int:
        """What weights and cache come to when all of the cache is in use; read from headers, nothing is loaded."""
        from puna.cache import states

        size = self._limits(hidden=self.encoder)
        kind = DTYPES[self._kv_type.upper()]
        kept = states(self.arch.caches(self.hparams), size.slots, size.states, kind, size.windows)
        cache = [node for kv in kept for node in (*kv.kept, *kv.recurrent)]
        weights = sum(tensor.dtype.nbytes(tensor.shape) for tensor in self.opened.tensors.values())
        files = (path.glob("*") if path.is_dir() else [path] for path, _ in self.opened.adapters)
        weights += sum(file.stat().st_size for each in files for file in each)
        weights += self.draft.expected_bytes() if self.draft else 0
        return weights + sum(node.dtype.nbytes(cast("tuple[int, ...]", node.shape)) for node in cache)

    def _runner(self, hidden: bool) -> Runner:
        return self._compiled(self._limits(hidden), hidden=hidden)

    def _limits(self, hidden: bool) -> Limits:
        from puna.cache import reaches
        from puna.engine.limits import limits

        specs = self.arch.caches(self.hparams)
        each = sum(spec.sequence_bytes for spec in specs)
        near = [] if hidden else reaches(specs)  # whoever wants hidden states has tables of its own
        kind = {"encoder": self.encoder, "hidden": hidden, "texts": self.reads}
        return limits(self.context_length, SEQUENCES, **kind, sequence_bytes=each, reaches=near)

    def _compiled(self, size: Limits, **options: Any) -> Runner:
        from puna.engine.runner import Runner

        grafted = self.grafted
        parts = (self.arch, self.hparams, grafted.tensors, self.backend, self._weights, size)
        with self._naming_source():
            kept = "f32" if options.get("hidden") else self._kv_type  # vectors are exact, and nothing of it is kept
            return Runner(*parts, kv_type=kept, changes=grafted.changes, **options)

    @property
    def engine(self) -> Engine:
        """What advances sequences."""
        return self.engine_with({})

    @property
    def embedder(self) -> Embedder:
        """What makes vectors of tokens."""
        return self.embedder_with({})

    @cached_property
    def _made_engine(self) -> Engine:
        from puna.engine.engine import Engine

        runner = self._runner(hidden=False)
        reader = self._reader(runner) if self.reads else None
        return Engine(runner, self.context_length, reader=reader, draft=self._made_draft)

    @cached_property
    def draft(self) -> Runtime | None:
        """A smaller model that says what this one may say next: the given one, else the Modelfile's if it can.

        ModelError says why the given one cannot.
        """
        from puna.runtime.drafting import draft_of

        make = partial(Runtime, backend=self._backend_name, context_length=None, kv_type="f16", threads=self._threads)
        draft = draft_of(self, make)
        if draft:
            draft._context_length = min(self.context_length, draft.hparams.context_length)
        return draft

    @property
    def recurrent(self) -> bool:
        """Whether it keeps more of a sequence than keys and values."""
        return any(spec.recurrent for spec in self.arch.caches(self.hparams))

    @property
    def _made_draft(self) -> Draft | None:
        from puna.engine.draft import Draft

        if self.draft is None:
            return None
        self.draft.backend = self.backend
        return Draft(self.draft._runner(hidden=False), self.draft.vocabulary)

    def _reader(self, runner: Runner) -> Reader:
        from puna.engine.reader import Reader

        grafted = self.grafted
        parts = (self.arch, self.hparams, grafted.tensors, self.backend, self._weights, runner)
        return Reader(*parts, kv_type=self._kv_type, changes=grafted.changes)

    def _made_embedder(self) -> Embedder:
        from puna.engine.embedder import Embedder
        from puna.runtime.dense import dense_of

        dense = [] if self.ranks else dense_of(self.opened, self.arch, self.embedding.dense)
        modes = ("cls",) if self.ranks else self.embedding.modes or (("mean",) if self.encoder else ("lasttoken",))
        made = Embedder(self._runner(hidden=not self.encoder), modes, dense)
        for number, adapter in self._adapters.named.values():
            made.choosing.add(adapter, number)
        return made

    @cached_property
    def embedding(self) -> Embedding:
        """How texts are to be embedded, as the file says it."""
        with self._naming_source():
            return embedding_of(self.opened.metadata, self.arch.name)
