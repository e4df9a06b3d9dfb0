"""What goes wrong with the Hugging Face hub, in one line each. It asks for nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from puna.errors import StoreError
from puna.store.hub_ref import HubRef


@contextmanager
def explained(ref: HubRef) -> Iterator[None]:
    """Turns what the library raises into one StoreError of one line."""
    from huggingface_hub import errors

    reasons: list[tuple[type[Exception], Callable[[Any], str]]] = [
        (errors.GatedRepoError, lambda e: f"it is gated; ask for access at https://hf.co/{ref.id}, then set HF_TOKEN"),
        (errors.RepositoryNotFoundError, lambda e: _absent(ref)),
        (errors.RevisionNotFoundError, lambda e: f"it has no revision {ref.revision}; a branch, tag or commit works"),
        (errors.OfflineModeIsEnabled, lambda e: "HF_HUB_OFFLINE is set, and it is not here; unset it"),
        (errors.EntryNotFoundError, lambda e: "a file is gone from it; try again, for it may have just been changed"),
        (errors.HFValidationError, lambda e: f"{str(e)[:120]}"),
        (errors.HfHubHTTPError, _status),
    ]
    try:
        yield
    except Exception as error:
        reason = next((say(error) for kind, say in reasons if isinstance(error, kind)), None)
        if reason is None and is_network(error):
            reason = f"the hub cannot be reached ({type(error).__name__}); check the network, or HF_ENDPOINT"
        if reason is None:
            raise
        raise StoreError(f"opening {ref}: {reason}") from error


def is_network(error: Exception) -> bool:
    """Whether a line broke or was never there, in the words of the libraries that the hub's has used."""
    from huggingface_hub.errors import HfHubHTTPError

    home = type(error).__module__.partition(".")[0]
    return home in ("httpx", "httpx2", "requests", "urllib3") and not isinstance(error, HfHubHTTPError)


def _absent(ref: HubRef) -> str:
    token = "" if os.environ.get("HF_TOKEN") else "; if it is private, set HF_TOKEN"
    return f"the hub has no model {ref.id}{token}"


def _status(error: Any) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refuses it ({status}); set HF_TOKEN to a token that may read it"
    return f"the hub answers {status or str(error)[:80]!r}; try again later"
