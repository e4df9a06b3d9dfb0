"""Responses that clients may come back to, for as long as the server runs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from puna.server.errors import Refused

KEPT = 1000
"""How many responses a server keeps, the latest."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A response with all items that led to it."""

    response: dict[str, Any]
    items: list[dict[str, Any]]


class Storage:
    """Responses by their identity, for as long as the server runs."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def keep(self, stored: Stored) -> None:
        """Keep a response; the oldest goes where there are too many."""
        self._stored[stored.response["id"]] = stored
        while len(self._stored) > self._most:
            self._stored.popitem(last=False)

    def find(self, identity: str) -> Stored:
        """A response; Refused with 404 where it is not, or no longer, there."""
        if identity not in self._stored:
            raise Refused(404, f"response '{identity}' not found; it was not stored, or not by this server")
        return self._stored[identity]

    def forget(self, identity: str) -> None:
        """Delete a response."""
        self.find(identity)
        del self._stored[identity]
