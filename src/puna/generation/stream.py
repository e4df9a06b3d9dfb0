"""From the choices of a sampler to chunks of an answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from puna.engine.sampler import Choice
from puna.generation.chunk import Chunk, Logprob
from puna.generation.stop import StopText

if TYPE_CHECKING:
    from puna.template.parsing import Delta, Parser
    from puna.tokenizer import Tokenizer


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
        logprobs += logprobs_of(choice, tokenizer)
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


def logprobs_of(choice: Choice, tokenizer: Tokenizer) -> list[Logprob]:
    """The probabilities that came with a token, as texts have them; none where there are none."""
    if choice.logprob is None:
        return []

    def known(token: int, value: float, top: tuple[Logprob, ...] = ()) -> Logprob:
        spelling = tokenizer.bytes_of(token)
        return Logprob(token, spelling.decode("utf-8", "replace"), value, top, spelling)

    return [known(choice.token, choice.logprob, tuple(known(token, value) for token, value in choice.top))]
