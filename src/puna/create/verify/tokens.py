"""Tokenizers against each other on a corpus, and one by itself: whether text comes back from its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from puna.create.verify.report import DRIFT, OK, SKIPPED, Check
from puna.create.verify.sides import Side
from puna.create.verify.texts import CORPUS
from puna.errors import PunaError, TokenizerError
from puna.tokenizer.check import PROBES, Difference, differences

if TYPE_CHECKING:
    from puna.tokenizer import Tokenizer

Encode = Callable[[str], list[int]]
TEXTS = tuple(dict.fromkeys((*CORPUS, *PROBES)))
SHOWN = 5
"""Differences that are told in full."""

IDS = tuple(f"tokenizer.ggml.{role}_token_id" for role in ("bos", "eos", "eot"))
FLAGS = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token")


def compare(model: Side, source: Side, reference: Encode | None = None) -> Check:
    """Whether the model's tokenizer gives the source's tokens.

    What is right comes from `reference`, which is transformers, else from the library of the source's own files, else
    from Puna's reading of the source, which `detail` then says.
    """
    mine = _tokenizer(model)
    found, by = _differences(mine, source, reference)
    lines = [_line(difference) for difference in found[:SHOWN]]
    lines += [f"and {len(found) - SHOWN} more texts"] if len(found) > SHOWN else []
    lines += special_ids(model.metadata, source.metadata)
    return Check("tokenizer", DRIFT if lines else OK, f"{len(TEXTS)} texts, against {by}", tuple(lines))


def _tokenizer(side: Side) -> Tokenizer:
    from puna.tokenizer import load_tokenizer

    return load_tokenizer(side.metadata)


def _differences(mine: Tokenizer, source: Side, reference: Encode | None) -> tuple[list[Difference], str]:
    if reference is None and source.directory:
        with suppress(TokenizerError):
            return differences(mine, source.directory, TEXTS), "the library of its files"
    by = "transformers" if reference else "Puna's reading of the source"
    right = reference or partial(_tokenizer(source).encode, add_bos=False, add_eos=False)
    pairs = ((text, mine.encode(text, add_bos=False, add_eos=False), right(text)) for text in TEXTS)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]], by


def _line(difference: Difference) -> str:
    text, got, want = difference
    at = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), min(len(want), len(got)))
    return f"{text[:40]!r}: from token {at} on {got[at : at + 4]}, the source {want[at : at + 4]}"


def special_ids(model: Mapping[str, Any], source: Mapping[str, Any]) -> list[str]:
    """The tokens that begin and end texts, where both say them and they differ."""
    pairs = [(key, model.get(key), source.get(key)) for key in IDS]
    pairs += [(key, model.get(key, False), source[key]) for key in FLAGS if key in source]
    return [f"'{k}' is {a}, the source's {b}" for k, a, b in pairs if None not in (a, b) and a != b]


def alone(model: Side, corpus: Iterable[str] = CORPUS) -> Check:
    """Whether texts come back from their tokens; lossy vocabularies must at least settle after one round."""
    if "tokenizer.ggml.model" not in model.metadata:
        return Check("tokenizer", SKIPPED, "the file has none")
    try:
        made = _tokenizer(model)
        texts = list(corpus)
        lossy = [text for text in texts if _again(made, text) != text]
        wrong = [text for text in lossy if _again(made, once := _again(made, text)) != once]
    except PunaError as error:
        return Check("tokenizer", DRIFT, "it cannot be used", (str(error),))
    findings = [f"{text[:40]!r} becomes {_again(made, text)[:40]!r}, and then another text" for text in wrong[:SHOWN]]
    exact = f"{len(texts) - len(lossy)} of {len(texts)} texts come back exactly"
    return Check("tokenizer", DRIFT if wrong else OK, f"{made.vocab_size:,} tokens; {exact}", tuple(findings))


def _again(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode(text, add_bos=False, add_eos=False))
