"""A model as its user holds it: tokenizer, template and engine on one opened file, each made when first used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from puna import arch
from puna.errors import ModelError, PromptTooLong, RequestError, TemplateError
from puna.generation import Chunk, Logprob, Options, Stats, StopText, parse_options
from puna.opened import Opened, open_model

if TYPE_CHECKING:
    from puna.arch.base import Architecture, Hparams
    from puna.backends.base import Backend, Weights
    from puna.engine.embedder import Embedder
    from puna.engine.engine import Engine
    from puna.engine.runner import Runner
    from puna.engine.sampler import Choice
    from puna.engine.sequence import Sequence as EngineSequence
    from puna.tokenizer import Tokenizer

DEFAULT_CONTEXT = 8192
"""Positions, where neither the caller nor the model says less; memory for them is taken as they fill."""

SEQUENCES = 8
"""Sequences that one loaded model advances at once."""


def load(
    ref: str | PathLike[str],
    *,
    backend: str = "auto",
    context_length: int | None = None,
    kv_type: str = "f16",
    threads: int | None = None,
) -> Model:
    """Open a model: a name in the store, a .gguf file (the first shard of several) or a checkpoint directory.

    `backend`: auto, cpu, numpy. `kv_type`: f32, f16, q8_0. Weights are taken in when they are first needed.
    Raises ModelNotFound, FormatError, ModelError, BackendError.
    """
    return Model(open_model(ref), backend=backend, context_length=context_length, kv_type=kv_type, threads=threads)


class Model:
    """A loaded model. Its methods may be called from several threads; generations advance together."""

    def __init__(
        self, opened: Opened, *, backend: str, context_length: int | None, kv_type: str, threads: int | None
    ) -> None:
        self._opened = opened
        self._backend_name = backend
        self._kv_type = kv_type
        self._threads = threads or opened.params.get("num_thread") or None
        self._context_length = context_length or opened.params.get("num_ctx")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The GGUF metadata."""
        return self._opened.metadata

    @property
    def arch(self) -> str:
        """The architecture's name, as in `general.architecture`."""
        return self._arch.name

    @cached_property
    def hparams(self) -> Hparams:
        """The hyperparameters."""
        return self._arch.hparams.from_gguf(self._arch.name, self.metadata)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the file describes."""
        from puna.tokenizer import load_tokenizer

        return load_tokenizer(self.metadata)

    @cached_property
    def context_length(self) -> int:
        """Positions a sequence may have; ModelError where more is asked for than the model was made for."""
        most = self.hparams.context_length
        wanted = self._context_length or min(most, DEFAULT_CONTEXT)
        if not 0 < wanted <= most:
            raise ModelError(f"context_length is {wanted}; '{self.arch}' was made for 1 to {most}")
        return int(wanted)

    @property
    def encoder(self) -> bool:
        """Whether it gives embeddings only."""
        return any(spec.encoder for spec in self._arch.caches(self.hparams))

    # ---- tokens -----------------------------------------------------------------------------------------------------

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after each token of a fresh sequence: float32 (len(tokens), vocab). Leaves no state behind."""
        if self.encoder:
            raise RequestError(f"'{self.arch}' is an encoder and has no logits; use embed()")
        return self._engine.forward(self._checked(tokens))

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Iterator[Chunk]:
        """Continue a text, taken as it is, or token ids. Options are named as in Ollama; see `puna.generation`."""
        tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else self._checked(prompt)
        return self._answer(tokens, parse_options(self._opened.params, options))

    def chat(
        self,
        messages: Iterable[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        format: Any = None,
        think: bool | str | None = None,
        **options: Any,
    ) -> Iterator[Chunk]:
        """Answer a conversation, rendered by the model's chat template."""
        if format is not None:
            raise RequestError("chat: 'format' (constrained output) is not supported yet; leave it out")
        prompt = self.render(messages, tools=tools, think=think)
        return self._answer(self.tokenizer.encode(prompt), parse_options(self._opened.params, options))

    def render(
        self,
        messages: Iterable[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | str | None = None,
        **more: Any,
    ) -> str:
        """The exact prompt that `messages` make: by the Modelfile's template, else the file's own."""
        from puna.template import parse_messages, render

        given = parse_messages([*self._opened.messages, *messages])
        tokens = {"bos_token": self.tokenizer.bos_id, "eos_token": self.tokenizer.eos_id}
        spelled = {name: "" if i is None else self.tokenizer.tokens[i] for name, i in tokens.items()}
        system = self._opened.system
        return render(self.template, given, tools=tools, think=think, system=system, **spelled, **more)

    @cached_property
    def template(self) -> str:
        """The chat template's text; TemplateError where the model has none."""
        template = self._opened.template or self.metadata.get("tokenizer.chat_template")
        if not template:
            raise TemplateError(
                f"{self._opened.source.name}: the model has no chat template; use generate(), or TEMPLATE"
            )
        return str(template)

    # ---- embeddings -------------------------------------------------------------------------------------------------

    def embed(
        self, texts: str | Sequence[str], *, dimensions: int | None = None, truncate: bool = False
    ) -> NDArray[np.float32]:
        """Embeddings of unit length: float32 (len(texts), dim), cut to `dimensions` where that is asked for.

        A text that does not fit raises PromptTooLong, or with `truncate` loses its end.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        width = self._embedder.width
        if dimensions is not None and not 0 < dimensions <= width:
            raise RequestError(f"embed: dimensions is {dimensions}; this model gives up to {width}")
        vectors = self._embedder.embed([self._fitted(text, truncate) for text in texts])[:, :dimensions]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

    def _fitted(self, text: str, truncate: bool) -> list[int]:
        ids = self.tokenizer.encode(text)
        if len(ids) <= self.context_length:
            return ids
        if not truncate:
            raise PromptTooLong(len(ids), self.context_length)
        end = [self.tokenizer.eos_id] if ids[-1] == self.tokenizer.eos_id else []
        return ids[: self.context_length - len(end)] + [i for i in end if i is not None]

    # ---- parts ------------------------------------------------------------------------------------------------------

    @cached_property
    def _arch(self) -> Architecture:
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise ModelError(f"{self._opened.source.name}: the file has no 'general.architecture'")
        return arch.find(name)

    @cached_property
    def _backend(self) -> Backend:
        from puna.backends import open_backend

        return open_backend(self._backend_name, threads=self._threads)

    @cached_property
    def _weights(self) -> Weights:
        return self._backend.load(self._opened.tensors)

    def _runner(self, hidden: bool) -> Runner:
        from puna.engine.engine import limits
        from puna.engine.runner import Runner

        size = limits(self.context_length, SEQUENCES, encoder=self.encoder)
        parts = (self._arch, self.hparams, self._opened.tensors, self._backend, self._weights, size)
        return Runner(*parts, kv_type=self._kv_type, hidden=hidden)

    @cached_property
    def _engine(self) -> Engine:
        from puna.engine.engine import Engine

        if self.encoder:
            raise RequestError(f"'{self.arch}' is an encoder and does not generate; use embed()")
        return Engine(self._runner(hidden=False), self.context_length)

    @cached_property
    def _embedder(self) -> Embedder:
        from puna.engine.embedder import Embedder, pooling

        return Embedder(self._runner(hidden=not self.encoder), pooling(self.metadata, self.arch, self.encoder))

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        ids = [int(t) for t in tokens]
        size = self.hparams.vocab_size or self._opened.tensors["token_embd.weight"].shape[0]
        if wrong := [i for i in ids if not 0 <= i < size]:
            raise RequestError(f"token {wrong[0]} is outside the vocabulary of {size}")
        return ids

    def _answer(self, tokens: list[int], options: Options) -> Iterator[Chunk]:
        stop_ids = () if options.ignore_eos else self.tokenizer.stop_ids
        sequence = self._engine.submit(tokens, options.sampling, limit=options.num_predict, stop_ids=stop_ids)
        return self._chunks(sequence, options)

    def _chunks(self, sequence: EngineSequence, options: Options) -> Iterator[Chunk]:
        stream, stop = self.tokenizer.stream(special=False), StopText(options.stop)
        ids: list[int] = []
        logprobs: list[Logprob] = []
        for choice in self._engine.tokens(sequence):
            text = stop.push(stream.push(choice.token))
            ids.append(choice.token)
            logprobs += self._logprobs(choice)
            if text:
                yield Chunk(text, tuple(ids), tuple(logprobs))
                ids, logprobs = [], []
            if stop.stopped:
                break
        text = "" if stop.stopped else stop.push(stream.flush()) + stop.flush()
        reason = "stop" if stop.stopped or sequence.reason is None else sequence.reason.value
        yield Chunk(text, tuple(ids), tuple(logprobs), done=True, done_reason=reason, stats=_stats(sequence))

    def _logprobs(self, choice: Choice) -> list[Logprob]:
        if choice.logprob is None:
            return []
        top = tuple(Logprob(i, self._spelled(i), value) for i, value in choice.top)
        return [Logprob(choice.token, self._spelled(choice.token), choice.logprob, top)]

    def _spelled(self, token: int) -> str:
        return self.tokenizer.bytes_of(token).decode("utf-8", "replace")


def _stats(sequence: EngineSequence) -> Stats:
    return Stats(
        prompt_tokens=sequence.prompt_length,
        cached_tokens=sequence.cached,
        prompt_seconds=max(sequence.first_token - sequence.submitted, 0.0),
        tokens=sequence.generated,
        seconds=sequence.last_token - sequence.first_token,
    )
