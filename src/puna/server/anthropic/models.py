"""Models in Anthropic's form, for clients that ask at `/v1/models` as Anthropic's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from puna.server import catalog

UNKNOWN = "1970-01-01T00:00:00Z"


def asked_for(headers: Mapping[str, str]) -> bool:
    """Whether a client of Anthropic's asks: it says which version of the API it knows."""
    return "anthropic-version" in headers


def model(entry: catalog.Entry, name: str) -> dict[str, Any]:
    """One model."""
    when = entry.manifest.modified
    created = when.isoformat() if when else UNKNOWN
    return {"type": "model", "id": name, "display_name": name, "created_at": created}


def page(entries: Sequence[catalog.Entry]) -> dict[str, Any]:
    """All models: the first page and the last."""
    data = [model(entry, entry.name.short) for entry in entries]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"data": data, "has_more": False} | ends
