"""Finds the name of a pre-tokenizer that a tokenizer.json spells out, by what it does to text.

A name fits only if it splits thousands of short texts, made of every kind of character, exactly the same way.
"""

import json
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from puna.errors import ConversionError
from puna.tokenizer.pretokenize import SCHEMES, Split, find_split

# One or two of every kind that the known patterns tell apart, and words whose letters they look for.
_CHARACTERS = (
    *"azAZsteo09 \t\n\r.,!?'\"()[]{}<>/\\|#$%&*+-=^~`@_:;",
    *"\u00e9\u00c9\u00df\u01c5\u02b0\u00aa\u0130\u017f\u0301\u093f\u0e31\u0e01\u0627\u05d0\u0430\u0410\u03c3",
    *"\u4e00\u9fff\u3042\u30a2\uac00\u3131\u3105\u0905\u1100\u0660\u0967\u00bd\u2167\u00b2\u4e09\u2460",
    *"\u00a0\u2003\u3000\u0085\u200b\u200d\ufeff\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c\uff01\u201c\u2018\u2014\u00ab",
    *"\u20ac\u00a9\u2764\U0001f600\U0001f1e8\U0001f3fd\U0001d400\U00010400\U00020000\0\x7f\ufe30\uff21\u2581",
)
_WORDS = ("'s", "'T", "'re", "'LL", "'d", "don't", "HELLO", "Hello", "hello", "camelCase", "ABCdef", "x1", "1234567")
_WORDS_MORE = (
    "12345",
    "  ",
    "   ",
    "\n\n",
    "\r\n",
    " \n ",
    "\t\t",
    "...",
    "!!\n",
    "//",
    "/\n",
    "\u00e9t\u00e9",
    "\u4e16\u754c",
)


@lru_cache(maxsize=1)
def _probes() -> tuple[str, ...]:
    choose = random.Random(20240501)
    atoms = (*_CHARACTERS, *_CHARACTERS, *_WORDS, *_WORDS_MORE, " ", " ", " ", "a", "b", "1", "2", "\n")
    texts = ["".join(choose.choices(atoms, k=choose.randint(1, 12))) for _ in range(4000)]
    return (*(a + b for a in _CHARACTERS for b in ("", " ", "a", "1", "\n")), *texts)


class Found(NamedTuple):
    """A `tokenizer.ggml.pre` name; `problem` says how it differs from what was looked for, if it does."""

    name: str
    problem: str | None = None


def find_name(pre_tokenizer: Mapping[str, Any], normalize: str | None, whole_words: bool) -> Found:
    """The `tokenizer.ggml.pre` name of a tokenizer.json's `pre_tokenizer`, or the closest with what is different.

    Of several names that split alike, one with this Unicode form and `ignore_merges` is taken; the form may differ.
    ConversionError where the library does not understand the spelling itself.
    """
    return _found(json.dumps(pre_tokenizer), normalize, whole_words)


@lru_cache(maxsize=8)
def _found(pre_tokenizer: str, normalize: str | None, whole_words: bool) -> Found:
    split = _split_of(pre_tokenizer)
    expected = [split(text) for text in _probes()]
    distinct = {scheme.patterns for scheme in SCHEMES.values() if scheme.byte_level}
    same = {patterns for patterns in distinct if _same(patterns, expected)}
    shares = {} if same else {patterns: _share(patterns, expected) for patterns in distinct}
    same = same or {max(shares, key=lambda patterns: shares[patterns])}
    alike = [name for name, scheme in SCHEMES.items() if scheme.byte_level and scheme.patterns in same]
    fitting = [name for name in alike if SCHEMES[name].whole_words == whole_words]
    exact = [name for name in fitting if SCHEMES[name].normalize == normalize]
    name = (exact or fitting or alike)[0]
    if shares:
        share = f"{max(shares.values()):.0%}"
        closest = f"the closest is '{name}', which splits {share} of short test texts alike"
        return Found(name, f"no name in GGUF stands for its pre-tokenizer; {closest}")
    if not fitting:
        return Found(name, f"no name in GGUF stands for its pre-tokenizer ('{name}') with ignore_merges {whole_words}")
    return Found(name)


def _same(patterns: tuple[str, ...], expected: list[list[str]]) -> bool:
    split = find_split(patterns)
    return all(split(text) == pieces for text, pieces in zip(_probes(), expected, strict=True))


def _share(patterns: tuple[str, ...], expected: list[list[str]]) -> float:
    split = find_split(patterns)
    some = list(zip(_probes(), expected, strict=True))[::8]
    return sum(split(text) == pieces for text, pieces in some) / len(some)


def _split_of(pre_tokenizer: str) -> Split:
    from tokenizers.pre_tokenizers import Sequence

    splitter = Sequence([])
    try:
        splitter.__setstate__(pre_tokenizer.encode())
    except Exception as error:  # the library's error for a kind it does not know
        raise ConversionError(
            f"tokenizer.json: the pre_tokenizer is not understood: {error}; one of the usual kinds would work"
        ) from error
    return lambda text: [text[a:b] for _, (a, b) in splitter.pre_tokenize_str(text)]
