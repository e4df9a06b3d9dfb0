"""Tokenizers against each other on a corpus, and one by itself: whether text comes back from its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.create.verify.report import DRIFT, OK, SKIPPED, Check
from puna.create.verify.sides import Side
from puna.errors import PunaError

if TYPE_CHECKING:
    from puna.tokenizer import Tokenizer

Encode = Callable[[str], list[int]]
SHOWN = 5
"""Differences that are told in full."""

IDS = tuple(f"tokenizer.ggml.{role}_token_id" for role in ("bos", "eos", "eot"))
FLAGS = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token")


def compare(model: Side, source: Side, corpus: Iterable[str], reference: Encode | None = None) -> Check:
    """Whether the model's tokenizer gives the source's tokens.

    What is right comes from `reference`, else from the `tokenizers` library on the source's tokenizer.json, else from
    Puna's own reading of the source, which `detail` then says.
    """
    mine = _tokenizer(model)
    theirs, by = (reference, "transformers") if reference else _library(source.directory)
    if theirs is None:
        other, by = _tokenizer(source), "Puna's reading of the source"
        theirs = lambda text: other.encode(text, add_bos=False, add_eos=False)  # noqa: E731
    texts = list(corpus)
    findings = differences(lambda text: mine.encode(text, add_bos=False, add_eos=False), theirs, texts)
    findings += special_ids(model.metadata, source.metadata)
    detail = f"{len(texts)} texts, against {by}"
    return Check("tokenizer", DRIFT if findings else OK, detail, tuple(findings))


def _tokenizer(side: Side) -> Tokenizer:
    from puna.tokenizer import load_tokenizer

    return load_tokenizer(side.metadata)


def _library(directory: Path | None) -> tuple[Encode | None, str]:
    path = directory / "tokenizer.json" if directory else None
    if path is None or not path.is_file():
        return None, ""
    from tokenizers import Tokenizer as Library

    try:
        made = Library.from_file(str(path))
    except Exception:  # the library raises nothing narrower for a file that it does not understand
        return None, ""
    made.no_padding()
    made.no_truncation()
    return lambda text: list(made.encode(text, add_special_tokens=False).ids), "the tokenizers library"


def differences(found: Encode, right: Encode, texts: Iterable[str]) -> list[str]:
    """A line for each text that becomes other tokens, at most a few of them and a count of the rest."""
    lines = []
    for text in texts:
        want, got = right(text), found(text)
        if want != got:
            at = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), min(len(want), len(got)))
            lines.append(f"{text[:40]!r}: from token {at} on {got[at : at + 4]}, the source {want[at : at + 4]}")
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"and {more} more texts"] if more > 0 else [])


def special_ids(model: Mapping[str, Any], source: Mapping[str, Any]) -> list[str]:
    """The tokens that begin and end texts, where both say them and they differ."""
    pairs = [(key, model.get(key), source.get(key)) for key in IDS]
    pairs += [(key, model.get(key, False), source[key]) for key in FLAGS if key in source]
    return [f"'{k}' is {a}, the source's {b}" for k, a, b in pairs if None not in (a, b) and a != b]


def alone(model: Side, corpus: Iterable[str]) -> Check:
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
