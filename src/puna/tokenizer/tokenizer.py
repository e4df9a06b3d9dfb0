"""Text to token ids and back, from GGUF metadata alone: `load_tokenizer(metadata)`.

Text -> control tokens in it (seams) -> encoder of the vocabulary's kind -> ids, with begin and end tokens around them.
It does not know chat templates.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from puna.errors import TokenizerError
from puna.tokenizer.byte_pairs import BytePairs
from puna.tokenizer.full import FullTokenizer
from puna.tokenizer.longest import LongestTokens
from puna.tokenizer.pieces import Encoder
from puna.tokenizer.seams import Seams
from puna.tokenizer.sentence_pieces import SentencePieces
from puna.tokenizer.unigrams import Unigrams
from puna.tokenizer.vocabulary import TokenType, Vocabulary, read_vocabulary
from puna.tokenizer.word_pieces import WordPieces, clean

_ENCODERS: dict[str, Callable[[Vocabulary], Encoder]] = {
    "gpt2": BytePairs,
    "gemma4": BytePairs,
    "whitespace": BytePairs,
    "llama": SentencePieces,
    "t5": Unigrams,
    "bert": WordPieces,
    "rwkv": LongestTokens,
}

_INSIDE = ("llama", "t5")  # models whose encoders find user-defined tokens themselves


def load_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that GGUF `metadata` describes (`tokenizer.ggml.*`); TokenizerError where it cannot be built."""
    return Tokenizer(read_vocabulary(metadata))


class Tokenizer:
    """A vocabulary with its rules. What encoding needs is built when something is first encoded."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._types: list[int] = vocabulary.types.tolist()

    @property
    def tokens(self) -> Sequence[str]:
        """The tokens as the file spells them, by id."""
        return self.vocabulary.tokens

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self.vocabulary.tokens)

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, if there is one."""
        return self.vocabulary.ids.get("bos")

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, if there is one."""
        return self.vocabulary.ids.get("eos")

    @property
    def eot_id(self) -> int | None:
        """The token that ends a turn, if the file names one."""
        return self.vocabulary.ids.get("eot")

    @property
    def unk_id(self) -> int | None:
        """The token for what has no token, if there is one."""
        return self.vocabulary.ids.get("unk")

    @property
    def pad_id(self) -> int | None:
        """The token that fills up, if there is one."""
        return self.vocabulary.ids.get("pad")

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every token after which generation ends."""
        return self.vocabulary.stop_ids

    def token_type(self, identity: int) -> TokenType:
        """What token `identity` is."""
        return TokenType(self._types[self._checked(identity)])

    def is_special(self, identity: int) -> bool:
        """Whether token `identity` is a mark rather than text: control or unknown."""
        return self._types[self._checked(identity)] in (TokenType.CONTROL, TokenType.UNKNOWN)

    def encode(
        self,
        text: str,
        special: bool = True,
        *,
        add_bos: bool | None = None,
        add_eos: bool | None = None,
        parse_special: bool | None = None,
    ) -> list[int]:
        """Ids of `text`.

        With `special`, begin and end tokens are added as the vocabulary says (a begin token that the text already has
        is not added again) and control tokens spelled in the text become their ids; without, neither, so that text
        from outside stays text. `add_bos`, `add_eos` and `parse_special` settle each of the three by itself.
        TokenizerError for text that is not Unicode (lone surrogates).
        """
        _check_unicode(text)
        parse = special if parse_special is None else parse_special
        ids = self._encode(text, parse)
        begin, end = self._ends
        if add_bos is None:
            add_bos = special and self.vocabulary.add_bos and not (parse and ids[: len(begin)] == begin)
        if add_eos is None:
            add_eos = special and self.vocabulary.add_eos
        return [*_wanted(begin, add_bos, "begin"), *ids, *_wanted(end, add_eos, "end")]

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """Text of `ids`; bytes that are no UTF-8 become U+FFFD. Without `special`, control tokens are left out."""
        ids = list(ids)
        raw = b"".join(self._shown(i, special) for i in ids)
        if self.vocabulary.add_space_prefix or self.vocabulary.model == "bert":
            raw = self._without_prefix(ids, raw, special)
        text = raw.decode("utf-8", "replace")
        return clean(text) if self.vocabulary.model == "bert" else text

    def stream(self, *, special: bool = True, keep: Iterable[str] = ()) -> TextStream:
        """A decoder for ids that come one by one, as the continuation of a text.

        Without `special`, control tokens are left out but for those that are spelled in a text of `keep`.
        """
        return TextStream(self, special, tuple(keep))

    def bytes_of(self, identity: int) -> bytes:
        """The bytes that token `identity` adds to a text; for control tokens, their spelling."""
        kind = self._types[self._checked(identity)]
        plain = kind == TokenType.USER_DEFINED and self.vocabulary.model in _INSIDE
        if plain or kind in (TokenType.NORMAL, TokenType.BYTE, TokenType.UNUSED):
            return self._encoder.bytes_of(identity)
        return self.vocabulary.tokens[identity].encode("utf-8", "surrogateescape")

    @cached_property
    def _encoder(self) -> Encoder | FullTokenizer:
        return self._full if self.vocabulary.model == "none" else _ENCODERS[self.vocabulary.model](self.vocabulary)

    @cached_property
    def _full(self) -> FullTokenizer:
        return FullTokenizer(self.vocabulary)

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """What goes before and after a text: one token, except where a whole tokenizer.json says more."""
        begin, end = ([] if i is None else [i] for i in (self.bos_id, self.eos_id))
        if not self.vocabulary.full:
            return begin, end
        before, after = self._full.ends
        return before if len(before) > 1 else begin, after if len(after) > 1 else end

    @cached_property
    def _control(self) -> Seams:
        return self._seams(TokenType.CONTROL, TokenType.UNKNOWN)

    @cached_property
    def _user_defined(self) -> Seams:
        # SentencePiece finds these itself, because there they are part of the text around them.
        return self._seams() if self.vocabulary.model in _INSIDE else self._seams(TokenType.USER_DEFINED)

    def _seams(self, *types: TokenType) -> Seams:
        tokens = self.vocabulary.tokens
        ids = {tokens[i]: i for i in self.vocabulary.of_type(*types)}
        return Seams(ids, self.vocabulary.skip_space_after, self.vocabulary.skip_space_before)

    def _encode(self, text: str, parse: bool) -> list[int]:
        if self.vocabulary.full:
            return self._full.encode(text, parse)
        ids: list[int] = []
        first = True
        for part in self._control.split(text) if parse else filter(None, (text,)):
            if isinstance(part, int):
                ids.append(part)
                first = True
                continue
            for plain in self._user_defined.split(part):
                ids += [plain] if isinstance(plain, int) else self._encoder.encode(plain, first)
                first = False
        return ids

    def _shown(self, identity: int, special: bool) -> bytes:
        return b"" if not special and self.is_special(identity) else self.bytes_of(identity)

    def _without_prefix(self, ids: Sequence[int], raw: bytes, special: bool) -> bytes:
        # The space that encoding put before the first text, which can stand behind control tokens.
        at = 0
        for i in ids:
            if not self.is_special(i):
                break
            at += len(self._shown(i, special))
        return raw[:at] + raw[at:].removeprefix(b" ")

    def _checked(self, identity: int) -> int:
        if not 0 <= identity < len(self._types):
            raise TokenizerError(f"decoding: there is no token {identity}; ids run from 0 to {len(self._types) - 1}")
        return identity


class TextStream:
    """Decodes ids one by one; never hands out a part of a character."""

    def __init__(self, tokenizer: Tokenizer, special: bool, keep: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._keep = keep
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, identity: int) -> str:
        """The text that token `identity` completes; empty while a character is incomplete."""
        if not self._special and self._tokenizer.is_special(identity) and not self._kept(identity):
            return ""
        return self._decoder.decode(self._tokenizer.bytes_of(identity))

    def _kept(self, identity: int) -> bool:
        text = self._tokenizer.tokens[identity]
        return any(text in kept for kept in self._keep)

    def flush(self) -> str:
        """What is left: U+FFFD where the ids ended inside a character. The stream can be used again."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def _wanted(ids: list[int], wanted: bool, name: str) -> list[int]:
    if wanted and not ids:
        raise TokenizerError(
            f"encoding: the vocabulary has no {name} token to add; add_bos=False, add_eos=False would work"
        )
    return ids if wanted else []


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"encoding: character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}, no text; "
            "pairs of surrogates must be joined into one character first"
        ) from error
