"""Conversations made shorter until their prompt fits: the oldest turns go, system messages and the last turn stay.

A turn begins with a message of role user. Whole turns go, for many templates refuse a conversation that begins with an
answer; only where the last turn alone is too long do the answers and calls within it go too. Knows no tokens.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from puna.errors import TemplateError
from puna.template.message import Message

Prompt = TypeVar("Prompt")


class Fitted(NamedTuple, Generic[Prompt]):
    """The prompt of the messages that are left, and how many were dropped."""

    prompt: Prompt
    messages: list[Message]
    dropped: int


def fit_messages(
    messages: Sequence[Message],
    render: Callable[[list[Message]], Prompt],
    size: Callable[[Prompt], int],
    room: int,
) -> Fitted[Prompt]:
    """The longest end of a conversation whose prompt has a size of at most `room`, with all its system messages.

    If none is short enough, the shortest that can be rendered: `size` then tells by how much. Renders about as often
    as the number of turns has binary digits. TemplateError where the whole conversation cannot be rendered.
    """
    whole = Fitted(render(list(messages)), list(messages), 0)
    if size(whole.prompt) <= room:
        return whole
    cuts = list(_cuts(messages))
    tried: dict[int, Fitted[Prompt]] = {}

    def fits(place: int) -> bool:
        kept = _behind(messages, cuts[place])
        try:
            tried[place] = Fitted(render(kept), kept, len(messages) - len(kept))
        except TemplateError:  # the template wants what was dropped
            return False
        return size(tried[place].prompt) <= room

    place = bisect_left(range(len(cuts)), True, key=fits)
    return tried.get(place) or (tried[max(tried)] if tried else whole)


def _cuts(messages: Sequence[Message]) -> Iterator[int]:
    """Where a conversation may begin instead: at a question; within the last turn, but not between call and result."""
    asked = [place for place, message in enumerate(messages) if message.role == "user"]
    turn = asked[-1] if asked else -1
    for place, message in enumerate(messages):
        inside = place > turn and message.role not in ("system", "tool")
        if place and (place in asked or inside or place == len(messages) - 1):
            yield place


def _behind(messages: Sequence[Message], cut: int) -> list[Message]:
    return [*(message for message in messages[:cut] if message.role == "system"), *messages[cut:]]
