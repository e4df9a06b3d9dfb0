"""Reads the Unigram model of a `tokenizer.json`, and the steps that SentencePiece's normalization became there.

It does not know added tokens.
"""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from puna.errors import ConversionError
from puna.tokenizer.draft import Draft
from puna.tokenizer.pieces import SPACE
from puna.tokenizer.vocabulary import TokenType

Json = Mapping[str, Any]


def unigrams(model: Json, steps: Sequence[Json]) -> Draft:
    """The draft of a `model` of type Unigram after `steps` (normalizers, then pre-tokenizers)."""
    vocab = model.get("vocab")
    if not isinstance(vocab, list) or not vocab:
        raise ConversionError("tokenizer.json: the model has no vocabulary; one with tokens would work")
    draft = Draft("t5", "default", [str(t) for t, _ in vocab], [1] * len(vocab), [float(score) for _, score in vocab])
    unknown = model.get("unk_id")
    if unknown is None:
        draft.problems.append("its Unigram model has no unknown token")
    else:
        draft.types[unknown] = TokenType.UNKNOWN
        draft.ids["unk"] = int(unknown)
    if model.get("byte_fallback"):
        for i, token in enumerate(draft.tokens):
            if re.fullmatch("<0x[0-9A-F]{2}>", token):
                draft.types[i] = TokenType.BYTE
        draft.warnings.append(
            "tokenizer.json: its Unigram model spells unknown characters in bytes; Puna does so as well, llama.cpp "
            "takes them as unknown"
        )
    _read_steps(draft, steps)
    return draft


def _read_steps(draft: Draft, steps: Sequence[Json]) -> None:
    """White space and the table of replacements, as far as they are what SentencePiece does; else problems."""
    kinds = []
    prefix = False
    for step in steps:
        kind = step["type"]
        if kind == "Precompiled":
            if table := step.get("precompiled_charsmap"):
                draft.flags["precompiled_charsmap"] = np.frombuffer(b64decode(table), np.uint8)
        elif kind == "Metaspace" and step.get("replacement") == SPACE:
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            prefix = scheme != "never"
        elif kind == "Strip" and step.get("strip_right"):
            kinds.append("strip")
        elif kind == "WhitespaceSplit":
            kinds.append("split")
        elif kind != "Replace" or step.get("pattern") != {"Regex": " {2,}"} or step.get("content") not in (" ", SPACE):
            draft.problems.append(f"its step {dict(step)} has no form in GGUF")
    draft.flags["add_space_prefix"] = prefix
    draft.flags["remove_extra_whitespaces"] = bool(kinds)
    draft.flags["normalizer.like_tokenizers"] = max(kinds, default="keep", key=("strip", "split").index)
