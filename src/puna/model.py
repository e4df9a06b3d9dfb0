"""A model as its user holds it: tokenizer, template and engine on one opened file, each made when first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from puna.asking.answering import Answering, Words, scores
from puna.asking.encoding import Encoding
from puna.errors import ModelError, PromptTooLong, RequestError
from puna.generation import Answer, Logprob, parse_options
from puna.opened import Opened, open_model
from puna.reranking import INSTRUCTION
from puna.runtime import Runtime
from puna.runtime.adapting import Chosen, factors_of

if TYPE_CHECKING:
    from puna.arch.base import Hparams
    from puna.asking.deciding import Decision
    from puna.calling.calls import Calls
    from puna.formats.imatrix import Imatrix
    from puna.template import Message
    from puna.template.parsing import Format, Parser
    from puna.tokenizer import Tokenizer


class Model:
    """A loaded model. Its methods may be called from several threads; generations advance together.

    `opened` is what it was opened from: metadata, tensors, and what its Modelfile added.
    """

    def __init__(
        self, opened: Opened, *, backend: str, context_length: int | None, kv_type: str, threads: int | None
    ) -> None:
        self.opened = opened
        self._runtime = Runtime(
            opened, backend=backend, context_length=context_length, kv_type=kv_type, threads=threads
        )
        self._words = Words(lambda: self.tokenizer)

    def __repr__(self) -> str:
        name = self.metadata.get("general.name") or self.opened.source.name
        return f"Model({name!r}, arch={self.arch!r}, context_length={self.context_length})"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The GGUF metadata."""
        return self.opened.metadata

    @property
    def arch(self) -> str:
        """The architecture's name, as in `general.architecture`."""
        return self._runtime.arch.name

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the file describes."""
        from puna.tokenizer import load_tokenizer

        return load_tokenizer(self.metadata)

    @property
    def hparams(self) -> Hparams:
        """The hyperparameters; ModelError where they contradict each other, the tensors or the vocabulary."""
        return self._runtime.hparams

    @property
    def context_length(self) -> int:
        """Positions a sequence may have; ModelError where the caller asks for more than the model was made for."""
        return self._runtime.context_length

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""
        return self._runtime.backend.name

    @property
    def backend_choice(self) -> str:
        """The name of the backend that runs it, and why it was taken if nobody asked for it."""
        why = self._runtime.choice.why
        return self.backend + (f" ({why})" if why else "")

    @property
    def encoder(self) -> bool:
        """Whether it gives embeddings only."""
        return self._runtime.encoder

    @property
    def reads(self) -> bool:
        """Whether an encoder reads prompts as they are, and a decoder answers."""
        return self._runtime.reads

    def prepare(self, progress: Callable[[int, int], None] | None = None, *, wait: bool = True) -> None:
        """Take the weights in and compile now, rather than when they are first needed.

        Without `wait` the weights may still come in, in the background, when this returns, and the first step waits for
        them. `progress` is called with bytes taken in and bytes in all by who waits.
        """
        self._runtime.prepare(progress, wait=wait)

    def prepare_formats(self) -> None:
        """Make now what answers that match a format need of the vocabulary, rather than when one is first asked for.

        RequestError where the model can give none.
        """
        self._check_generates()
        self._words()

    @property
    def own_adapters(self) -> list[str]:
        """The names of adapters that answers have unless they choose, of a model that `like` made."""
        return self._runtime.own_adapters

    def add_adapter(self, name: str, path: str | PathLike[str]) -> None:
        """Have a LoRA adapter (a GGUF file or a PEFT directory) at hand, which answers may choose by its name.

        Answers under way go on. ModelError for one that does not fit, that is no sum (DoRA), or that replaces tensors.
        """
        self._runtime.add_adapter(name, path)

    def remove_adapter(self, name: str) -> None:
        """Let go of an adapter and its memory; RequestError where there is none such, or answers under way have it."""
        self._runtime.remove_adapter(name)

    def like(self, ref: str | PathLike[str]) -> Model:
        """Another model of the same file of weights, with words and adapters of its own: both answer from one memory.

        ModelError where it has other weights, or an adapter that cannot be had by some answers only.
        """
        opened = open_model(ref, self.opened)
        if opened.source.name != self.opened.source.name:
            raise ModelError(f"{ref}: its weights are others than those that are loaded; load() takes them")
        found = copy(self)
        found.__dict__ |= {"tokenizer": self.tokenizer, "opened": opened, "_runtime": self._runtime.like(opened)}
        for made in ("format", "encoding", "_answering"):
            found.__dict__.pop(made, None)
        return found

    # ---- tokens -----------------------------------------------------------------------------------------------------

    def logits(
        self, tokens: Sequence[int], *, text: str | Sequence[int] = (), adapters: Chosen = ()
    ) -> NDArray[np.float32]:
        """Logits after each token of a fresh sequence: float32 (len(tokens), vocab). Leaves no state behind.

        Of an encoder-decoder `text` is what the encoder reads, and `tokens` are the decoder's. `adapters` as in
        `generate`.
        """
        if self.encoder:
            raise RequestError(f"'{self.arch}' is an encoder and has no logits; use embed()")
        ids, read = self._checked(tokens), self.tokenizer.encode(text) if isinstance(text, str) else self._checked(text)
        if len(ids) > self.context_length:
            raise PromptTooLong(len(ids), self.context_length, self.hparams.context_length)
        if len(read) > self.context_length:
            raise PromptTooLong(len(read), self.context_length, self.hparams.context_length)
        return self._runtime.engine.forward(ids, text=read, adapters=self._runtime.chosen(factors_of(adapters)))

    def score(self, text: str | Sequence[int], *, top: int = 0, adapters: Chosen = ()) -> list[Logprob]:
        """How probable each token of a text, or of token ids, is behind those before it; the first has none before it.

        With `top` so many candidates for each place. RequestError for an encoder or an encoder-decoder, PromptTooLong.
        """
        self._check_generates()
        self._runtime.check_reads_nothing("score")
        tokens = self.tokenizer.encode(text) if isinstance(text, str) else self._checked(text)
        return scores(self._runtime, self.tokenizer, tokens, top, factors_of(adapters))

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        parser: Parser | None = None,
        format: Any = None,
        adapters: Chosen = (),
        calls: Calls | None = None,
        **options: Any,
    ) -> Answer:
        """Continue a text, taken as it is, or token ids. Options are named as in Ollama, and `ignore_eos`.

        A `parser` (as of `open_parser`) tells thinking and tool calls from content; without, all is content. `format`,
        "json" or a JSON Schema or a grammar (puna.engine.constrain), is what the content will match. `adapters`, of
        those that `add_adapter` named, are for this answer alone: {"sql": 0.5}, or ["sql"] with a factor of 1; `calls`
        (as of puna.calling) is which tools that the parser knows must be called, and how often.
        RequestError for a wrong option, PromptTooLong for a prompt that does not fit, both at once. Closing the
        iterator ends the generation.
        """
        tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else self._checked(prompt)
        return self._answer(tokens, parser, format, adapters, options, calls)

    def chat(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        format: Any = None,
        think: bool | str | None = None,
        adapters: Chosen = (),
        tool_choice: str | None = None,
        parallel_tool_calls: bool = True,
        allowed_tools: Sequence[str] | None = None,
        **options: Any,
    ) -> Answer:
        """Answer a conversation, rendered by the model's chat template; options as in `generate`.

        Chunks carry content, `thinking` and `tool_calls`, told apart by the model's own format. With `tool_choice`
        "required" the answer is calls of `tools` whose arguments follow their schemas, without `parallel_tool_calls`
        one; "none" offers none. `allowed_tools` names those of `tools` that may be called, if not all. Where the model
        calls a tool with `strict`, arguments follow its schema too.
        """
        from puna.calling.calls import calls_of

        self._check_generates()
        messages = list(messages)
        calls = calls_of(tools, tool_choice, parallel_tool_calls, allowed_tools)
        tools = None if calls is None else calls.tools
        prompt = self.render(messages, tools=tools, think=think)
        parser = self.open_parser(messages, tools=tools, think=think, prompt=prompt)
        return self._answer(self.tokenizer.encode(prompt), parser, format, adapters, options, calls)

    def step(self) -> None:
        """Compute a step for all answers under way, for who reads them by `Answer.ready`; others have no need to."""
        self._runtime.engine.step()

    def open_parser(
        self,
        messages: Sequence[Message | Mapping[str, Any]] = (),
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | str | None = None,
        prompt: str = "",
    ) -> Parser:
        """A parser for one answer of the model to `messages`, which were rendered as `prompt`.

        Without `tools` there are no calls of them, and what looks like one is text, unless a PARSER reads it.
        """
        from puna.asking.reading import parser_for

        return parser_for(self.opened, self.format, messages, tools=tools, think=think, prompt=prompt)

    @cached_property
    def format(self) -> Format:
        """How the model writes thinking and tool calls: by its PARSER, else RENDERER, else as its template shows."""
        from puna.asking.reading import format_of

        return format_of(self.opened)

    def render(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | str | None = None,
        template: str | None = None,
        **more: Any,
    ) -> str:
        """The exact prompt: by `template`, else the Modelfile's renderer or template, else the file's own.

        The Modelfile's messages come first, and before them its system message, unless `messages` begin with one.
        A last message of role assistant is continued where the template can. `more`: `prompt` and `suffix` for what
        is to come between them, by a template that knows `.Suffix`, else by the vocabulary's tokens for that. Without
        a template, an encoder-decoder's prompt is the one message of the user.
        """
        from puna.asking.prompting import prompt_alone, render_for

        templates = (template, self.opened.template, self.opened.renderer, self.metadata.get("tokenizer.chat_template"))
        if self.reads and not any(templates):
            return prompt_alone(self.opened, messages, tools=tools, **more)
        vocabulary = self.tokenizer.vocabulary
        return render_for(self.opened, vocabulary, messages, tools=tools, think=think, template=template, **more)

    @property
    def template(self) -> str:
        """The chat template's text, unused where there is a renderer; TemplateError where there is neither."""
        from puna.asking.prompting import template_of

        return template_of(self.opened)

    # ---- embeddings -------------------------------------------------------------------------------------------------

    def embed(
        self,
        texts: str | Sequence[str | Sequence[int]],
        *,
        dimensions: int | None = None,
        truncate: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize: bool | None = None,
        adapters: Chosen = (),
    ) -> NDArray[np.float32]:
        """Embeddings: float32 (len(texts), dim), cut to `dimensions` where that is asked for.

        Before each text comes the model's prompt of that name (`prompts`), or `prompt` as it is, else the model's
        default, if it has one. Vectors have unit length, unless the model's files say otherwise, or `normalize` does.
        A text may be token ids, which are taken as they are. One that does not fit raises PromptTooLong, or with
        `truncate` loses its end. `adapters` as in `generate`. RequestError for an unknown prompt, or more dimensions
        than there are.
        """
        encoding = self.encoding
        given = encoding.tokens(texts, truncate, prompt_name, prompt)
        return encoding.vectors(given, dimensions, normalize, factors_of(adapters))

    @property
    def prompts(self) -> Mapping[str, str]:
        """What the model wants before texts that it embeds, by name."""
        return self._runtime.embedding.prompts

    @property
    def similarity(self) -> str | None:
        """How the model's files say that embeddings are compared: cosine, dot, euclidean or manhattan."""
        return self._runtime.embedding.similarity

    @cached_property
    def encoding(self) -> Encoding:
        """What is done with texts that are only read, in two steps: their tokens, and what comes of them."""
        return Encoding(self._runtime, self.tokenizer)

    # ---- beginnings -------------------------------------------------------------------------------------------------

    def save_prefix(
        self, path: str | PathLike[str], prompt: str | Sequence[int] | Sequence[Message | Mapping[str, Any]]
    ) -> int:
        """Compute what a text, token ids or messages come to, and write it to a file; gives how many tokens those are.

        Whoever begins with these tokens, once `load_prefix` has read the file, goes on from there as if they had been
        computed. Messages are rendered without the beginning of an answer. RequestError for an encoder or an
        encoder-decoder, PromptTooLong.
        """
        self._check_generates()
        self._runtime.check_reads_nothing("save_prefix")
        tokens = self._tokens(prompt, add_generation_prompt=False)
        self._runtime.save_prefix(path, tokens)
        return len(tokens)

    def load_prefix(self, path: str | PathLike[str]) -> list[int]:
        """Read what `save_prefix` wrote; gives its tokens.

        RequestError names what differs: architecture, kv_type, adapters, backend or weights; FormatError for what is
        no such file.
        """
        self._check_generates()
        self._runtime.check_reads_nothing("load_prefix")
        return self._runtime.load_prefix(path)

    # ---- pairs of texts ---------------------------------------------------------------------------------------------

    def rerank(
        self, query: str, documents: Sequence[str], *, instruction: str = INSTRUCTION, truncate: bool = False
    ) -> NDArray[np.float32]:
        """How well each document answers the query: float32 (len(documents),), the higher the better.

        By a cross-encoder's classifier, else by a decoder's answer, yes or no, to a prompt with `instruction`. A pair
        that does not fit raises PromptTooLong, or with `truncate` the document loses its end.
        """
        encoding = self.encoding
        return encoding.scores(encoding.pairs(query, documents, instruction, truncate))

    # ---- decisions --------------------------------------------------------------------------------------------------

    def decide(
        self,
        prompt: str | Sequence[int] | Sequence[Message | Mapping[str, Any]],
        choices: Sequence[str],
        *,
        adapters: Chosen = (),
    ) -> Decision:
        """Which of `choices` the model goes on with after a text, token ids or messages, and how probable each is.

        `adapters` as in `generate`. RequestError for less than two choices, or two that are the same tokens.
        """
        from puna.asking.deciding import decide

        self._check_generates()
        self._runtime.check_reads_nothing("decide")
        engine = self._runtime.engine_with(factors_of(adapters))
        return decide(engine, self.tokenizer, self._tokens(prompt), choices)

    def _tokens(self, prompt: Any, **more: Any) -> list[int]:
        """Of a text, of token ids, or of messages as the model's template renders them."""
        if not isinstance(prompt, str) and prompt and not isinstance(prompt[0], int):
            prompt = self.render(prompt, **more)
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else self._checked(prompt)

    # ---- importance -------------------------------------------------------------------------------------------------

    def imatrix(
        self,
        text: str | Sequence[int],
        *,
        chunks: int | None = None,
        chunk_size: int = 512,
        from_chunk: int = 0,
        output: bool = False,
        dataset: str = "",
        on_chunk: Callable[[int, int, Callable[[], Imatrix]], None] | None = None,
    ) -> Imatrix:
        """The importance matrix that a text, or token ids, give the weights: mean squares of what goes into them.

        Whole chunks of `chunk_size` tokens are read, from the one numbered `from_chunk`, at most `chunks`; `output`
        measures the last matrix too. `dataset` is what the text is called. `on_chunk` is called with chunks done,
        chunks in all, and a function that gives the matrix so far. RequestError for a text without a whole chunk.
        """
        from puna.engine.imatrix import Collector, cut, measured

        self._runtime.check_reads_nothing("imatrix")
        if not 0 < chunk_size <= self.hparams.context_length:
            raise RequestError(f"imatrix: chunks of {chunk_size} tokens; 1 to {self.hparams.context_length} would work")
        tokens = self.tokenizer.encode(text, parse_special=False, add_eos=False) if isinstance(text, str) else text
        begin = self.tokenizer.bos_id if self.tokenizer.vocabulary.add_bos else None
        pieces = cut(self._checked(tokens), chunk_size, from_chunk, chunks, begin)
        collector = Collector(self._runtime.observer, chunk_size, encoder=self.encoder, output=output, dataset=dataset)
        return measured(collector, pieces, on_chunk)

    def _check_generates(self) -> None:
        if self.encoder:
            raise RequestError(f"'{self.arch}' is an encoder: it gives embeddings, not answers; embed() does")

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        return self._runtime.checked(tokens)

    def _answer(
        self,
        tokens: list[int],
        parser: Parser | None,
        format: Any,
        adapters: Chosen,
        options: Mapping[str, Any],
        calls: Calls | None,
    ) -> Answer:
        self._check_generates()
        parsed = parse_options(self.opened.params, options)
        return self._answering.answer(tokens, parsed, parser, format, factors_of(adapters), calls)

    @cached_property
    def _answering(self) -> Answering:
        return Answering(self._runtime, self.tokenizer, self._words)
