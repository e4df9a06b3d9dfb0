"""Whether a model can have a draft, and which: a smaller one that says what it may say next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from puna.errors import ModelError, PunaError
from puna.opened import Opened, open_draft

if TYPE_CHECKING:
    from puna.arch.base import Architecture

_log = logging.getLogger("puna")


class Speaker(Protocol):
    """A model that is made to run, as far as it matters here."""

    opened: Opened
    vocabulary: int

    @property
    def arch(self) -> Architecture:
        """Its architecture."""
        ...

    @property
    def encoder(self) -> bool:
        """Whether it gives embeddings only."""
        ...

    @property
    def reads(self) -> bool:
        """Whether an encoder reads its prompts."""
        ...

    @property
    def recurrent(self) -> bool:
        """Whether it keeps more of a sequence than keys and values."""
        ...


Draft = TypeVar("Draft", bound=Speaker)


def draft_of(model: Speaker, make: Callable[[Opened], Draft]) -> Draft | None:
    """The given draft of a model, else its Modelfile's, if that can be one (a warning says why not); None without any.

    ModelError says why the given one cannot. `make` gives what runs an opened model.
    """
    if model.opened.draft:
        return _checked(model, model.opened.draft, make)
    try:
        stored = None if model.encoder else open_draft(model.opened)
        return _checked(model, stored, make) if stored else None
    except PunaError as error:
        _log.warning("%s: its DRAFT is not used: %s", model.opened.source.name, error)
        return None


def _checked(model: Speaker, opened: Opened, make: Callable[[Opened], Draft]) -> Draft:
    from puna.engine.draft import shared

    what = f"{opened.source.name} as a draft model"
    if model.encoder or model.reads or model.recurrent:
        raise ModelError(f"{what}: '{model.arch.name}' takes none; a decoder whose only memory is its K/V cache does")
    draft = make(opened)
    if draft.encoder or draft.reads or draft.recurrent:
        raise ModelError(f"{what}: '{draft.arch.name}' cannot be one; a decoder with nothing but a K/V cache can")
    try:
        draft.vocabulary = shared(model.opened.metadata, opened.metadata)
    except ModelError as error:
        raise ModelError(f"{what}: {error}") from error
    return draft
