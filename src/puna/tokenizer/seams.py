"""Finds given tokens inside text: the leftmost first, of several at one place the longest.

It does not know what the tokens mean.
"""

import re
from collections.abc import Iterator, Mapping, Set


class Seams:
    """Splits text at the tokens of `ids` (text to id).

    Those in `after` swallow white space to their right, those in `before` to their left.
    """

    def __init__(self, ids: Mapping[str, int], after: Set[int] = frozenset(), before: Set[int] = frozenset()) -> None:
        self._ids = ids
        self._after = after
        self._before = before
        lengths: dict[str, set[int]] = {}
        for text in ids:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        self._first = re.compile("[" + "".join(map(re.escape, sorted(lengths))) + "]") if lengths else None

    def split(self, text: str) -> Iterator[str | int]:
        """Yields the stretches of text between tokens (never empty) and the ids of tokens, in order."""
        start = at = 0
        while self._first and (found := self._first.search(text, at)):
            at = found.start()
            token = self._token_at(text, at)
            if token is None:
                at += 1
                continue
            identity = self._ids[token]
            plain = text[start:at].rstrip() if identity in self._before else text[start:at]
            if plain:
                yield plain
            yield identity
            at += len(token)
            while identity in self._after and at < len(text) and text[at].isspace():
                at += 1
            start = at
        if start < len(text):
            yield text[start:]

    def _token_at(self, text: str, at: int) -> str | None:
        for length in self._lengths[text[at]]:
            if (token := text[at : at + length]) in self._ids:
                return token
        return None
