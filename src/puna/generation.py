"""What generating takes and gives: options by name, chunks of text, stop strings, figures. It computes nothing."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from puna.engine.sampler import Choice, Sampling
from puna.engine.speculate import AHEAD, MOST, PREDICTED_MOST
from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.template.parsing import Delta, Parser
    from puna.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one generation; seconds of the prompt run from submission to the first token.

    `load_seconds` of the first answer is how long the model took until it was ready, which may have gone on while the
    prompt was typed or became tokens; of others, how long they waited: next to nothing. `dropped_tokens` made room for
    others when the context was full and shifted. `proposed_tokens` were computed before it was known that they come,
    and the `accepted_tokens` of them did. Of a prediction's `predicted_tokens` the `foretold_tokens` came.
    """

    load_seconds: float
    prompt_tokens: int
    cached_tokens: int
    prompt_seconds: float
    tokens: int
    seconds: float
    dropped_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0
    predicted_tokens: int = 0
    foretold_tokens: int = 0

    @property
    def prompt_rate(self) -> float:
        """Prompt tokens computed a second."""
        return (self.prompt_tokens - self.cached_tokens) / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        return (self.tokens - 1) / self.seconds if self.seconds and self.tokens > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token with the natural logarithm of its probability; `top` are the best candidates in its place.

    `spelling` are its bytes, of which `text` shows the whole characters.
    """

    token: int
    text: str
    logprob: float
    top: tuple[Logprob, ...] = ()
    spelling: bytes = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer; `text` is its content, and calls are `puna.template.ToolCall`s.

    The last one is `done`, with the reason ("stop" or "length"), the stop string if one was met, and the figures.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    thinking: str = ""
    tool_calls: tuple[Any, ...] = ()
    done: bool = False
    done_reason: str | None = None
    stats: Stats | None = None
    stop: str | None = None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        """Only what differs from an empty chunk."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        return f"Chunk({', '.join(f'{name}={value!r}' for name, value in given.items())})"


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


NUM_KEEP = 4
"""Tokens at the beginning that a shift leaves, if nothing else is said: models lean on them."""


@dataclass(frozen=True, slots=True)
class Options:
    """Generate options: what the sampler needs, and when to end. `num_predict` below 0: until the context is full.

    With `shift` a full context loses half of what follows its first `num_keep` tokens (below 0: the prompt) and goes
    on; what is left is computed again, as a prompt would be. `draft_num_predict`: tokens that may be computed in
    advance, where that is worth while; it changes no text, and nor does `prediction`, a text that the answer may be
    like, which makes it come sooner where it is. Thinking takes at most `num_think` tokens, if that is not below 0 and
    the model's way to think has tags; then it is ended.
    """

    sampling: Sampling = field(default_factory=Sampling)
    num_predict: int = -1
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    shift: bool = False
    num_keep: int = NUM_KEEP
    draft_num_predict: int = MOST
    prediction: str = ""
    num_think: int = -1


SAMPLING = {f.name for f in fields(Sampling)}
LOAD_TIME = {"num_ctx": "context_length", "num_thread": "threads", "num_batch": "", "num_gpu": "", "main_gpu": "",
             "use_mmap": ""}  # fmt: skip
"""Options of Ollama's that concern loading, with the argument of `puna.load` that does the same ("": nothing to do)."""

OTHERS = (
    "num_predict",
    "stop",
    "ignore_eos",
    "logprobs",
    "shift",
    "num_keep",
    "draft_num_predict",
    "prediction",
    "num_think",
)
KNOWN = sorted({*SAMPLING, *OTHERS})


def parse_options(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Options:
    """Options from a model's stored defaults and a caller's; RequestError names an unknown or impossible one."""
    for name in given:
        if name in LOAD_TIME:
            use = f"; pass {LOAD_TIME[name]} to puna.load" if LOAD_TIME[name] else ""
            raise RequestError(f"option '{name}' belongs to loading, not to generating{use}")
        if name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.0)
            raise RequestError(f"option '{name}' is unknown; closest: {close[0]}; known: {', '.join(KNOWN)}")
    merged = {name: value for name, value in {**defaults, **given}.items() if name in KNOWN and value is not None}
    sampling = {name: merged[name] for name in SAMPLING & merged.keys()}
    if merged.get("logprobs"):
        sampling.setdefault("top_logprobs", 0)
    if "logit_bias" in sampling:
        sampling["logit_bias"] = _bias(sampling["logit_bias"])
    return Options(
        Sampling(**sampling),
        _count(merged, "num_predict", -1, "-1 for no limit"),
        _stops(merged),
        ignore_eos=bool(merged.get("ignore_eos")),
        shift=bool(merged.get("shift")),
        num_keep=_count(merged, "num_keep", NUM_KEEP, "-1 for the prompt"),
        draft_num_predict=_ahead(merged),
        prediction=_prediction(merged),
        num_think=_count(merged, "num_think", -1, "-1 for no limit"),
    )


def _count(options: Mapping[str, Any], name: str, default: int, below: str) -> int:
    count = options.get(name, default)
    if not isinstance(count, int) or isinstance(count, bool):
        raise RequestError(f"option '{name}' is {count!r}; it must be a whole number, or {below}")
    return count


def _prediction(options: Mapping[str, Any]) -> str:
    text = options.get("prediction", "")
    if not isinstance(text, str):
        raise RequestError(f"option 'prediction' is {text!r:.80}; it must be a text")
    return text


def _ahead(options: Mapping[str, Any]) -> int:
    count = options.get("draft_num_predict", PREDICTED_MOST if options.get("prediction") else MOST)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= AHEAD:
        raise RequestError(f"option 'draft_num_predict' is {count!r}; it must be a whole number from 0 to {AHEAD}")
    return count


def _bias(given: object) -> tuple[tuple[int, float], ...]:
    """Token ids, which JSON writes as text, with what is added to their logits."""
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    try:
        return tuple((int(token), float(bias)) for token, bias in pairs)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise RequestError(f"option 'logit_bias' is {given!r:.80}; token ids with numbers would work") from error


def _stops(options: Mapping[str, Any]) -> tuple[str, ...]:
    stops = options.get("stop") or ()
    stops = (stops,) if isinstance(stops, str) else stops
    if not isinstance(stops, list | tuple) or not all(isinstance(s, str) and s for s in stops):
        raise RequestError(f"option 'stop' is {stops!r}; it must be non-empty strings")
    return tuple(stops)


class StopText:
    """Passes text through until a stop string is complete; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self.met is not None

    def push(self, text: str) -> str:
        """The text that is certain now. After a stop string, everything before it, and nothing more."""
        if self.stopped:
            return ""
        text = self._held + text
        if found := [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]:
            end, at = min(found)
            self.met, self._held = text[at:end], ""
            return text[:at]  # the first to be complete, as if characters came one by one
        held = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of `text` that begins `stop`."""
        sizes = range(min(len(text), len(stop) - 1), 0, -1)
        return next((n for n in sizes if text.endswith(stop[:n])), 0)


def chunks(
    choices: Iterator[Choice | None],
    tokenizer: Tokenizer,
    stop: StopText,
    parser: Parser | None = None,
    one_call: bool = False,
) -> Generator[Chunk | None, None, Chunk]:
    """Chunks of whole characters up to a stop string; returns what is left, with reason "stop" if one was met.

    A `parser` tells thinking and tool calls from content; with `one_call` the first of these is the end. Where there is
    no choice yet, there is no chunk: None.
    """
    stream = tokenizer.stream(special=False, keep=parser.format.markup if parser else ())
    ids: list[int] = []
    logprobs: list[Logprob] = []
    for choice in choices:
        if choice is None:
            yield None
            continue
        text = stop.push(stream.push(choice.token))
        ids.append(choice.token)
        logprobs += _logprobs(choice, tokenizer)
        if chunk := _said(text, ids, logprobs, parser):
            if one_call and chunk.tool_calls:
                return replace(chunk, tool_calls=chunk.tool_calls[:1], done_reason="stop")
            yield chunk
            ids, logprobs = [], []
        if stop.stopped:
            break
    rest = "" if stop.stopped else stop.push(stream.flush()) + stop.flush()
    last = _said(rest, ids, logprobs, parser, final=True) or Chunk("", tuple(ids), tuple(logprobs))
    last = replace(last, tool_calls=last.tool_calls[:1]) if one_call else last
    return replace(last, done_reason="stop", stop=stop.met) if stop.stopped else last


def _said(
    text: str, ids: list[int], logprobs: list[Logprob], parser: Parser | None, final: bool = False
) -> Chunk | None:
    """The chunk that a text makes certain, None if it says nothing yet."""
    if not parser:
        return Chunk(text, tuple(ids), tuple(logprobs)) if text else None
    deltas: list[Delta] = [parser.push(text), *([parser.close()] if final else [])]
    if not any(deltas):
        return None
    content, thinking = ("".join(parts) for parts in zip(*((d.content, d.thinking) for d in deltas), strict=True))
    calls = tuple(call for delta in deltas for call in delta.tool_calls)
    return Chunk(content, tuple(ids), tuple(logprobs), thinking, calls)


def _logprobs(choice: Choice, tokenizer: Tokenizer) -> list[Logprob]:
    if choice.logprob is None:
        return []

    def known(token: int, value: float, top: tuple[Logprob, ...] = ()) -> Logprob:
        spelling = tokenizer.bytes_of(token)
        return Logprob(token, spelling.decode("utf-8", "replace"), value, top, spelling)

    return [known(choice.token, choice.logprob, tuple(known(token, value) for token, value in choice.top))]
