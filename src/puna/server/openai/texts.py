"""`/v1/completions`: texts that are gone on from, in OpenAI's form."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import accumulate
from typing import Any, NamedTuple

from msgspec.structs import replace
from starlette.responses import Response

from puna.generation import Chunk, Logprob, Stats
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused
from puna.server.openai.choice import Choice, Pieces, answers, head_of, seeded, streamed, usage, whole
from puna.server.openai.requests import Completion, candidates, to_generate
from puna.server.shapes.openai import CompletionAnswer
from puna.server.shapes.shape import SSE, Shape
from puna.server.wire import json_reply
from puna.worker.requests import Detokenize, Score


class Echo(NamedTuple):
    """What is said of a prompt before its answers: its text, and if that was asked for how probable its tokens were."""

    text: str = ""
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    top: tuple[dict[str, float], ...] = ()


NOTHING = Echo()


async def completion(call: Call, ask: Completion) -> Response:
    """Go on from one text or several."""
    prompts, given, count = _prompts(ask.prompt), ask.n or 1, candidates(ask)
    only_echoed = bool(ask.echo) and isinstance(ask.logprobs, int) and ask.max_tokens == 0
    wanted = replace(ask, max_tokens=1) if only_echoed else ask
    asks = [seeded(to_generate(wanted, prompt), i) for prompt in prompts for i in range(count)]
    await call.server.check(asks[0])
    head = {"id": f"cmpl-{secrets.token_hex(8)}", "object": "text_completion"} | head_of(ask)
    echoes = [each for prompt in prompts for each in [await _echo(call, ask, prompt)] * given]
    if only_echoed:
        read = [Choice(reason="length", stats=Stats(0.0, len(echo.tokens), 0, 0.0, 0, 0.0)) for echo in echoes]
        return json_reply(_whole(ask, head, echoes, read, given))
    pieces = answers(call, asks)
    if ask.stream:
        return await streamed(_text_chunks(ask, head, pieces, [echo.text for echo in echoes]))
    return json_reply(_whole(ask, head, echoes, await whole(pieces, len(asks)), count))


def _whole(
    ask: Completion, head: dict[str, Any], echoes: Sequence[Echo], choices: Sequence[Choice], count: int
) -> dict[str, Any]:
    """An answer with the best of each `count` choices."""
    best = [each for i in range(0, len(choices), count) for each in _best(choices[i : i + count], ask.n or 1)]
    said = [
        {"text": echo.text + choice.text, "index": i, "finish_reason": choice.reason}
        | (_text_logprobs(choice.logprobs, echo) if isinstance(ask.logprobs, int) else {})
        for i, (echo, choice) in enumerate(zip(echoes, best, strict=True))
    ]
    return head | {"choices": said, "usage": usage(choices, count)}


async def _echo(call: Call, ask: Completion, prompt: str | list[int]) -> Echo:
    """What is said of a prompt before its answers."""
    if not ask.echo:
        return NOTHING
    if isinstance(ask.logprobs, int):
        found = await call.server.value(Score(model=ask.model, prompt=prompt, top_logprobs=ask.logprobs), call.client)
        text = prompt if isinstance(prompt, str) else "".join(found["tokens"])
        return Echo(text, *(tuple(found[name]) for name in ("tokens", "logprobs", "top")))
    if isinstance(prompt, str):
        return Echo(prompt)
    return Echo(str((await call.server.value(Detokenize(model=ask.model, tokens=prompt), call.client))["text"]))


def _best(choices: Sequence[Choice], count: int) -> Sequence[Choice]:
    """Those whose tokens are the most probable, in the mean."""
    if count == len(choices):
        return choices

    def mean(choice: Choice) -> float:
        return sum(each.logprob for each in choice.logprobs) / max(len(choice.logprobs), 1)

    return sorted(choices, key=mean, reverse=True)[:count]


def _prompts(prompt: Any) -> list[Any]:
    """The prompts of a request: one text, several, a list of token ids, or several lists."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(_is_prompt(each) for each in prompt):
        return prompt
    raise Refused(400, "prompt: a text, a list of token ids, or a list of either would work")


def _is_prompt(each: Any) -> bool:
    return isinstance(each, str) or (isinstance(each, list) and bool(each) and all(type(t) is int for t in each))


async def _text_chunks(
    ask: Completion, head: dict[str, Any], pieces: Pieces, echoes: Sequence[str]
) -> AsyncGenerator[dict[str, Any], None]:
    choices = [Choice() for _ in echoes]
    async with aclosing(pieces):
        async for number, piece in pieces:
            if not isinstance(piece, Chunk):
                continue
            choice = choices[number]
            choice.take(piece)
            if piece.text or piece.done:
                text = ("" if choice.begun else echoes[number]) + piece.text
                choice.begun = True
                said = {"text": text, "index": number, "finish_reason": choice.reason if piece.done else None}
                yield head | {"choices": [said | _text_logprobs(piece.logprobs)]}
    if ask.stream_options and ask.stream_options.include_usage:
        yield head | {"choices": [], "usage": usage(choices)}


def _text_logprobs(logprobs: Sequence[Logprob], echo: Echo = NOTHING) -> dict[str, Any]:
    """How probable the tokens of an answer were, and those of an echo, whose first comes behind nothing."""
    tokens = [*echo.tokens, *(each.text for each in logprobs)]
    if not tokens:
        return {}
    first = [None][: len(echo.tokens)]
    return {
        "logprobs": {
            "tokens": tokens,
            "token_logprobs": [*first, *echo.logprobs, *(each.logprob for each in logprobs)],
            "top_logprobs": [
                *first,
                *echo.top,
                *({other.text: other.logprob for other in each.top} for each in logprobs),
            ],
            "text_offset": list(accumulate(map(len, tokens[:-1]), initial=0)),
        }
    }


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/completions",
        gives=Shape(CompletionAnswer, (SSE,)),
        run=completion,
        reads=Completion,
        api="openai",
        about="Go on from a text.",
    ),
]
