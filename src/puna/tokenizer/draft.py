"""A vocabulary on its way into GGUF metadata: what the readers of Hugging Face files fill in, and `to_metadata`.

It does not know which file anything came from.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from puna.errors import ConversionError
from puna.tokenizer.pieces import SPACE
from puna.tokenizer.vocabulary import PREFIX, TokenType

_KEYS = {"unk": "unknown", "sep": "seperator", "pad": "padding"}  # roles that GGUF names otherwise, and so spelled
_GAP = 1 << 20  # unused ids in a row
_LOOKS_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
_SPECIAL_ENDS = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))


@dataclass(slots=True)
class Draft:
    """Tokens by id with their types, and what goes with them.

    `flags` are further `tokenizer.ggml.*` values as they are written; `ids` maps roles (bos, unk, ...) to ids. What of
    a tokenizer.json these cannot say is in `problems`, so that all of it must be kept; `warnings` are for whoever
    converts. `source` is what was read, `listed` the entries of tokens that other files add to it, in the form of a
    tokenizer.json, and `origins` what else gave a key its value.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    source: str = "tokenizer.json"
    listed: list[dict[str, Any]] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)

    def place(self, identity: int, token: str, kind: TokenType, score: float = -1000.0) -> None:
        """Puts `token` at `identity`, with unused tokens in the gap where that lies beyond the end.

        ConversionError where the id is negative or that gap too wide to be meant.
        """
        if not 0 <= identity < len(self.tokens) + _GAP:
            raise ConversionError(
                f"tokenizer: token {token!r} has the id {identity}, beside {len(self.tokens)} others; ids without such "
                "gaps would work"
            )
        self.pad(identity + 1)
        self.tokens[identity], self.types[identity] = token, kind
        if self.scores is not None:
            self.scores[identity] = score

    def pad(self, count: int) -> None:
        """Adds unused tokens `[PADn]`, n being their id, until there are `count`."""
        for i in range(len(self.tokens), count):
            self.tokens.append(f"[PAD{i}]")
            self.types.append(TokenType.UNUSED)
            if self.scores is not None:
                self.scores.append(-10000.0)

    @staticmethod
    def key_of(role: str) -> str:
        """GGUF's key, without its prefix, of the id of `role`."""
        return f"{_KEYS.get(role, role)}_token_id"

    def find(self, token: str) -> int | None:
        """The id of `token`; of special tokens if several are spelled so."""
        found = [i for i, known in enumerate(self.tokens) if known == token]
        return max(found, key=lambda i: self.types[i] == TokenType.CONTROL) if found else None

    def twice(self) -> list[str]:
        """Texts that more than one token has."""
        if len(set(self.tokens)) == len(self.tokens):
            return []
        return [token for token, count in Counter(self.tokens).items() if count > 1]

    def to_metadata(self) -> dict[str, Any]:
        """The `tokenizer.ggml.*` keys; ConversionError where an id names no token."""
        keys: dict[str, Any] = {"model": self.model, "pre": self.pre, "tokens": self.tokens}
        if self.scores is not None:
            keys["scores"] = np.asarray(self.scores, np.float32)
        keys["token_type"] = np.asarray(self.types, np.int32)
        if self.merges is not None:
            keys["merges"] = self.merges
        for role, identity in self.ids.items():
            if not 0 <= identity < len(self.tokens):
                raise ConversionError(
                    f"tokenizer: {role}_token_id is {identity}, but there are {len(self.tokens)} tokens; "
                    "a config that fits the tokenizer would work"
                )
            keys[self.key_of(role)] = identity
        return {PREFIX + key: value for key, value in (keys | self.flags).items()}


def added_type(token: str, special: bool) -> TokenType:
    """The type of an added token: control where it is special or looks so, since some files forget to say."""
    looks = token in _LOOKS_SPECIAL or any(token.startswith(a) and token.endswith(b) for a, b in _SPECIAL_ENDS)
    return TokenType.CONTROL if special or looks else TokenType.USER_DEFINED


def plain_spaces(token: str) -> str:
    """A user-defined token as it is searched for in text."""
    return token.replace(SPACE, " ")
