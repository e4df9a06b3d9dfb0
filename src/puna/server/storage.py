"""Answers that clients may come back to, for as long as the server runs, and pages of what is listed of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna.server.errors import Refused

KEPT = 1000
"""How many answers a server keeps, the latest."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A response with all items that led to it; `owner` is whose key it was asked for with."""

    response: dict[str, Any]
    items: list[dict[str, Any]]
    owner: str = ""


class Storage:
    """Answers by their identity, for as long as the server runs; `kind` is what they are called."""

    def __init__(self, most: int = KEPT, kind: str = "response") -> None:
        self._most = most
        self._kind = kind
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def keep(self, stored: Stored) -> None:
        """Keep an answer; the oldest goes where there are too many."""
        self._stored[stored.response["id"]] = stored
        while len(self._stored) > self._most:
            self._stored.popitem(last=False)

    def find(self, identity: str) -> Stored:
        """An answer; Refused with 404 where it is not, or no longer, there."""
        if identity not in self._stored:
            raise Refused(404, f"{self._kind} '{identity}' not found; it was not stored, or not by this server")
        return self._stored[identity]

    def forget(self, identity: str) -> None:
        """Delete an answer."""
        self.find(identity)
        del self._stored[identity]

    def of(self, owner: str) -> list[dict[str, Any]]:
        """All answers of an owner, the oldest first."""
        return [stored.response for stored in self._stored.values() if stored.owner == owner]


MOST_LISTED = 100


def page(items: Sequence[dict[str, Any]], asked: Mapping[str, str], order: str = "asc") -> dict[str, Any]:
    """A page of items, which come the oldest first: `limit` of them after one, in an order if it is not asked for.

    Refused for an order or a limit that makes no sense.
    """
    order, text, after = asked.get("order", order), asked.get("limit", "20"), asked.get("after")
    if order not in ("asc", "desc"):
        raise Refused(400, f"order is {order!r}; asc and desc would work")
    if not text.isdecimal() or not 1 <= int(text) <= MOST_LISTED:
        raise Refused(400, f"limit is {text!r}; 1 to {MOST_LISTED} would work")
    items = items if order == "asc" else items[::-1]
    start = next((i + 1 for i, item in enumerate(items) if item["id"] == after), 0) if after else 0
    found = list(items[start : start + int(text)])
    ends = {"first_id": found[0]["id"] if found else None, "last_id": found[-1]["id"] if found else None}
    return {"object": "list", "data": found, "has_more": start + len(found) < len(items)} | ends
