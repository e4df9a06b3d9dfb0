"""Answers of one model: from a prompt's tokens to chunks, on its runtime and its tokenizer. It knows no template."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from puna.errors import PromptTooLong, RequestError
from puna.generation import Answer, Begun, Chunk, Logprob, Options, Stats, StopText, chunks, logprobs_of
from puna.runtime import Runtime

if TYPE_CHECKING:
    from puna.calling.calls import Calls
    from puna.engine.choosing import Chosen
    from puna.engine.constrain import Constraint, Vocabulary
    from puna.engine.sampler import Rules
    from puna.engine.sequence import Sequence
    from puna.template.parsing import Parser
    from puna.tokenizer import Tokenizer


class Words:
    """What grammars need of a tokenizer, made when it is first wanted, once for all models that have the tokenizer."""

    def __init__(self, tokenizer: Callable[[], Tokenizer]) -> None:
        self._tokenizer = tokenizer
        self._making = threading.Lock()
        self._made: Vocabulary | None = None

    def __call__(self) -> Vocabulary:
        """It; RequestError where the tokenizer has no end of an answer. Several threads may ask."""
        from puna.engine.constrain import Vocabulary

        with self._making:
            self._made = self._made or Vocabulary(self._tokenizer())
            return self._made


class Answering:
    """Answers prompts. Several threads may ask."""

    def __init__(self, runtime: Runtime, tokenizer: Tokenizer, words: Words) -> None:
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._words = words
        self._answered = False

    def answer(
        self,
        tokens: list[int],
        options: Options,
        parser: Parser | None,
        format: Any,
        adapters: Mapping[str, float],
        calls: Calls | None = None,
    ) -> Answer:
        """What is wrong with a request is said at once; the rest waits until the first chunk is asked for."""
        runtime = self._runtime
        if not tokens:
            raise RequestError("the prompt is empty; at least one token is needed")
        if len(tokens) >= runtime.context_length + runtime.reads:  # who reads it needs no room for the answer
            raise PromptTooLong(len(tokens), runtime.context_length, runtime.hparams.context_length)
        constraint = self._bounded(options.num_think, parser, self._constraint(format, parser, calls))
        one_call = calls is not None and not calls.several
        chosen = runtime.chosen(adapters)
        return Answer(lambda begun: self._chunks(tokens, options, parser, constraint, one_call, chosen, begun))

    def _constraint(self, format: Any, parser: Parser | None, calls: Calls | None) -> Constraint | None:
        """What an answer is held to, behind whatever the model thinks first."""
        free = format is None or format == ""
        calls = calls if parser and calls and (calls.held or (not free and parser.format.writes)) else None
        if free and not calls:
            return None
        from puna.calling.answers import answer_rules
        from puna.engine.constrain import Constraint, grammar_of, led_by

        content = "" if free or (calls and calls.forced) else grammar_of(format)
        words = self._words()
        if parser is None:
            return Constraint(words, content)
        heads = words.written(parser.format.heads)
        answer = f"answer: {heads} @answer\n"
        if calls:
            answer = answer_rules(calls, parser.format, words, "@answer" if content else "")
        lead = self._lead(parser).replace("@answer", "answer")
        return Constraint(words, led_by(lead + answer, content))

    def _bounded(self, most: int, parser: Parser | None, rules: Rules | None) -> Rules | None:
        """The same rules, and that thinking takes at most so many tokens."""
        if most < 0 or parser is None or not (tags := parser.format.thinking):
            return rules
        from puna.engine.budget import Budget, Thoughts

        opening, closing = (tag.strip() for tag in tags)
        ends = self._tokenizer.encode(f"\n{closing}\n\n", add_bos=False, add_eos=False)
        thoughts = Thoughts(opening.encode(), closing.encode(), self._tokenizer.bytes_of, ends)
        return Budget(most, thoughts, begun=parser.thinking, rules=rules)

    def _lead(self, parser: Parser) -> str:
        """Rules of how an answer leads to its `@answer`."""
        from puna.engine.constrain import thought_first

        if parser.format.rules or not (tags := parser.format.thinking):
            return parser.format.rules or "start: @answer\n"
        return thought_first(self._words(), tags, begun=parser.thinking)

    def _chunks(
        self,
        tokens: list[int],
        options: Options,
        parser: Parser | None,
        constraint: Rules | None,
        one_call: bool,
        adapters: Chosen,
        begun: Begun,
    ) -> Generator[Chunk | None, None, None]:
        start = time.perf_counter()
        self._runtime.prepare()
        engine = self._runtime.engine
        waited = time.perf_counter() - start
        loading, self._answered = waited if self._answered else self._runtime.load_seconds, True
        stop_ids = () if options.ignore_eos else self._tokenizer.stop_ids
        prompt, text = (self._runtime.start, tokens) if self._runtime.reads else (tokens, [])
        ends: dict[str, Any] = {"limit": options.num_predict, "stop_ids": stop_ids, "constraint": constraint}
        predicted = self._tokenizer.encode(options.prediction, special=False) if options.prediction else []
        ends |= {"ahead": options.draft_num_predict, "predicted": predicted}
        if options.shift:
            ends["keep"] = options.num_keep if options.num_keep >= 0 else len(prompt)
        sequence = engine.submit(prompt, options.sampling, text=text, adapters=adapters, **ends)
        begun(lambda: engine.cancel(sequence), lambda: engine.wait(sequence))
        try:
            last = yield from chunks(engine.ready(sequence), self._tokenizer, StopText(options.stop), parser, one_call)
        finally:
            engine.cancel(sequence)
        reason = sequence.reason.value if last.done_reason is None and sequence.reason else "stop"
        yield replace(last, done=True, done_reason=reason, stats=_stats(sequence, loading, predicted))


def _stats(sequence: Sequence, load_seconds: float, predicted: list[int]) -> Stats:
    from puna.engine.predicted import foretold

    return Stats(
        load_seconds=load_seconds,
        prompt_tokens=sequence.asked,
        cached_tokens=sequence.cached,
        prompt_seconds=max(sequence.first_token - sequence.submitted, 0.0),
        tokens=sequence.told,
        seconds=sequence.last_token - sequence.first_token,
        dropped_tokens=sequence.dropped,
        proposed_tokens=sequence.foresight.proposed if sequence.foresight else 0,
        accepted_tokens=sequence.foresight.accepted if sequence.foresight else 0,
        predicted_tokens=len(predicted),
        foretold_tokens=foretold(predicted, sequence.tokens[sequence.prompt_length :]) if predicted else 0,
    )


def scores(
    runtime: Runtime, tokenizer: Tokenizer, tokens: list[int], count: int, adapters: Mapping[str, float]
) -> list[Logprob]:
    """How probable each of `tokens` but the first is, with the `count` best in its place: a step's logits at a time."""
    from puna.engine.sampler import with_logprobs

    if len(tokens) > runtime.context_length:
        raise PromptTooLong(len(tokens), runtime.context_length, runtime.hparams.context_length)
    engine, found = runtime.engine, list[Logprob]()
    for start, rows in engine.results(tokens, adapters=runtime.chosen(adapters)):
        for row, token in zip(rows, tokens[start + 1 :], strict=False):
            found += logprobs_of(with_logprobs(token, row, count, engine.runner.best), tokenizer)
    return found
