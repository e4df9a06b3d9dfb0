"""What a request's prompt comes to: the text by the model's template, and the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from puna.errors import PromptTooLong, RequestError
from puna.worker.requests import Chat, Generate

if TYPE_CHECKING:
    from puna.model import Model


class Prompt(NamedTuple):
    """A prompt; `dropped` messages or tokens of the request are not in it."""

    text: str
    tokens: list[int]
    dropped: dict[str, int]


def prompt_of(model: Model, ask: Chat | Generate, room: int) -> Prompt:
    """The prompt of a request, which has to leave one of `room` positions free; PromptTooLong with both counts."""
    return _conversation(model, ask, room) if isinstance(ask, Chat) else _continued(model, ask, room)


def _conversation(model: Model, ask: Chat, room: int) -> Prompt:
    from puna.template.fitting import fit_messages
    from puna.template.message import Message, parse_messages

    def prompt(kept: list[Message]) -> Prompt:
        text = model.render(kept, tools=ask.tools, think=ask.think)
        return Prompt(text, model.tokenizer.encode(text), {})

    messages = parse_messages(ask.messages or [])
    if not ask.truncate:
        found = prompt(messages)
    else:
        found, _, dropped = fit_messages(messages, prompt, lambda made: len(made.tokens), room - 1)
        found = found._replace(dropped={"messages": dropped} if dropped else {})
    _check(model, found.tokens, room, ask)
    return found


def _continued(model: Model, ask: Generate, room: int) -> Prompt:
    from puna.template import Message

    if not isinstance(ask.prompt, str):
        text, tokens = model.tokenizer.decode(ask.prompt), list(ask.prompt)
    elif ask.raw:
        if ask.template or ask.system or ask.context:
            raise RequestError("raw mode does not support template, system, or context")
        text, tokens = ask.prompt, model.tokenizer.encode(ask.prompt)
    else:
        if ask.suffix:
            text = model.render([], prompt=ask.prompt, suffix=ask.suffix, template=ask.template or None)
        else:
            before = [Message("system", ask.system)] if ask.system else []
            message = Message("user", ask.prompt)
            text = model.render([*before, message], think=ask.think, template=ask.template or None)
        earlier = list(ask.context or [])
        tokens = earlier + model.tokenizer.encode(text, add_bos=False if earlier else None)
    dropped = max(len(tokens) - room + 1, 0) if ask.truncate else 0
    _check(model, tokens[dropped:], room, ask)
    return Prompt(text, tokens[dropped:], {"tokens": dropped} if dropped else {})


def _check(model: Model, tokens: list[int], room: int, ask: Chat | Generate) -> None:
    if not tokens:
        raise RequestError("the prompt is empty; at least one token is needed")
    if len(tokens) >= room:
        raise PromptTooLong(len(tokens), room, model.hparams.context_length, truncate=not ask.truncate)
