"""Fields of OpenAI's requests that are not possible here and would change an answer: refused, rather than ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puna.server.errors import Refused

Known = Mapping[str, tuple[tuple[Any, ...], str]]
"""By name: values that change nothing, and what would work instead of others."""

CHAT: Known = {
    "functions": ((), "tools and tool_choice would work"),
    "function_call": ((), "tools and tool_choice would work"),
    "audio": ((), "text would work"),
    "web_search_options": ((), "a tool that the client runs would work"),
    "moderation": ((), "a request of its own would work"),
    "verbosity": (("medium",), "medium, or a message that says so, would work"),
}
RESPONSES: Known = {
    "background": ((), "an answer that is waited for, or streamed, would work"),
    "conversation": ((), "previous_response_id goes on from a stored response"),
    "context_management": ((), "truncation would work"),
    "prompt": ((), "instructions and input would work"),
    "moderation": ((), "a request of its own would work"),
}

PAIRS, KEY, VALUE = 16, 64, 512
"""What metadata may have: pairs, characters of a key, and of a value."""


def check(ask: object, known: Known, metadata: Mapping[str, str] | None) -> None:
    """Refused for a field that is not supported, and for metadata that is too much."""
    for name, (fine, instead) in known.items():
        value = getattr(ask, name)
        if value and value not in fine:
            raise Refused(400, f"{name} is not supported; {instead}")
    check_metadata(metadata)


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """Refused where there is too much of it, as OpenAI has it."""
    pairs = metadata or {}
    if len(pairs) > PAIRS:
        raise Refused(400, f"metadata has {len(pairs)} pairs; {PAIRS} would work")
    for key, value in pairs.items():
        if len(key) > KEY or len(value) > VALUE:
            raise Refused(
                400, f"metadata: {key[:KEY]!r} is too long; {KEY} characters, and {VALUE} of a value, would work"
            )
