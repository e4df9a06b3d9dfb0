"""A vocabulary as GGUF metadata holds it: the `tokenizer.ggml.*` keys, with llama.cpp's defaults where a key is absent.

    model   gpt2 | gemma4 | whitespace (byte pairs), llama (SentencePiece), t5 (SentencePiece unigrams),
            bert (WordPiece), rwkv (the longest token), none
    tokens  [string], token_type [i32], scores [f32], merges ["left right"]
    *_token_id  bos eos eot eom unknown seperator (so spelled) padding cls mask;  add_{bos,eos}_token, add_space_prefix
    precompiled_charsmap, remove_extra_whitespaces
    Puna's own: normalizer.{unicode,like_tokenizers}, merge_by_rank, {l,r}strip_token_ids, eos_token_ids;
    tokenizer.huggingface.json beside them, the text of a tokenizer.json, where they do not say all of it

It does not know how text becomes ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.errors import TokenizerError
from puna.tokenizer.pretokenize import Scheme, find_scheme

_log = logging.getLogger("puna")

PREFIX = "tokenizer.ggml."
FULL = "tokenizer.huggingface.json"
BYTE_PAIRS = ("gpt2", "gemma4", "whitespace")
MODELS = (*BYTE_PAIRS, "llama", "t5", "bert", "rwkv", "none")


class TokenType(IntEnum):
    """What a token is; the numbers are those of GGUF and SentencePiece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


# Roles and the keys they are stored under, older spellings last.
_ROLES = {
    "bos": ("bos",),
    "eos": ("eos",),
    "eot": ("eot",),
    "eom": ("eom",),
    "unk": ("unknown",),
    "sep": ("seperator", "separator"),
    "pad": ("padding",),
    "cls": ("cls",),
    "mask": ("mask",),
    "fim_pre": ("fim_pre", "prefix"),
    "fim_suf": ("fim_suf", "suffix"),
    "fim_mid": ("fim_mid", "middle"),
    **{role: (role,) for role in ("fim_pad", "fim_rep", "fim_sep")},
}
_DEFAULT_IDS: dict[str, dict[str, int]] = {
    "llama": {"bos": 1, "eos": 2, "unk": 0},
    "t5": {"eos": 1, "unk": 2, "pad": 0},
    "bert": {"bos": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103},
}

# Tokens after which a model has said what it wanted, whatever else its metadata says.
_STOPS = (
    *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>"),
    *("<end_of_turn>", "<turn|>", "<|tool_response>", "<|endoftext|>", "<|end_of_text|>", "<end_of_utterance>"),
    *("<EOT>", "_<EOT>", "[EOT]", "[EOS]", "</s>", "<eos>", "[e~[", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<|fim_repo|>", "<|repo_name|>", "<reponame>", "<|file_sep|>"),
)
SEAMS = ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"})
"""Tokens beside which <|end|> ends a part of an answer, not the answer."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens, their types and their roles.

    `ids` maps a role (bos, eos, eot, eom, unk, sep, pad, cls, mask, fim_*) to an id; a role without token is absent.
    `skip_space_before` and `skip_space_after` hold the tokens that swallow white space to their left and right.
    `charsmap` is SentencePiece's table of replacements; with `like_tokenizers` (keep, strip or split white space) they
    are made as by the library tokenizers. `by_rank` joins the neighbours whose token has the lowest id. `full` gives
    the text of a tokenizer.json that says more than the rest.
    """

    model: str
    tokens: Sequence[str]
    types: NDArray[np.int32]
    scores: NDArray[np.float32] | None
    merges: Sequence[str]
    ids: Mapping[str, int]
    stop_ids: frozenset[int]
    scheme: Scheme
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool
    lowercase: bool | None
    strip_accents: bool | None
    skip_space_before: frozenset[int]
    skip_space_after: frozenset[int]
    charsmap: bytes | None
    like_tokenizers: str | None
    by_rank: bool
    full: Callable[[], str] | None

    def of_type(self, *types: TokenType) -> list[int]:
        """Ids of the tokens of these types, ascending."""
        return [int(i) for i in np.flatnonzero(np.isin(self.types, types))]


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary in GGUF `metadata`; TokenizerError where it is absent, inconsistent or of an unknown kind."""
    model = _model(metadata)
    tokens = _need(metadata, "tokens")
    if "" in tokens:
        tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
    types = _numbers(metadata, "token_type", np.dtype(np.int32), len(tokens))
    types = np.full(len(tokens), TokenType.NORMAL, np.int32) if types is None else types.copy()
    ids = _role_ids(metadata, model, len(tokens))
    stops = _stop_ids(metadata, tokens, types, ids)
    types[[i for i in stops if types[i] == TokenType.USER_DEFINED]] = TokenType.CONTROL
    scheme = _scheme(metadata, model)
    by_rank = bool(metadata.get(PREFIX + "merge_by_rank", False))
    add_bos = bool(metadata.get(PREFIX + "add_bos_token", model in ("llama", "bert") or scheme.add_bos))
    return Vocabulary(
        model=model,
        tokens=tokens,
        types=types,
        scores=_numbers(metadata, "scores", np.dtype(np.float32), len(tokens)),
        merges=_need(metadata, "merges") if model in BYTE_PAIRS and not by_rank else (),
        ids=ids,
        stop_ids=stops,
        scheme=scheme,
        add_bos=_adds(metadata, "bos", add_bos, ids),
        add_eos=_adds(metadata, "eos", bool(metadata.get(PREFIX + "add_eos_token", model in ("bert", "t5"))), ids),
        add_space_prefix=bool(metadata.get(PREFIX + "add_space_prefix", model == "llama")),
        remove_extra_whitespaces=bool(metadata.get(PREFIX + "remove_extra_whitespaces", False)),
        lowercase=metadata.get(PREFIX + "normalizer.lowercase"),
        strip_accents=metadata.get(PREFIX + "normalizer.strip_accents"),
        skip_space_before=_listed(metadata, "lstrip_token_ids", len(tokens)),
        skip_space_after=_skip_space_after(metadata, tokens, types),
        charsmap=_table(metadata),
        like_tokenizers=metadata.get(PREFIX + "normalizer.like_tokenizers"),
        by_rank=by_rank,
        full=(lambda: str(metadata[FULL])) if FULL in metadata else None,
    )


def _model(metadata: Mapping[str, Any]) -> str:
    model = metadata.get(PREFIX + "model")
    if model is None:
        raise TokenizerError(f"tokenizer: the metadata has no '{PREFIX}model'; a GGUF with a vocabulary would work")
    if model not in MODELS or (model == "none" and FULL not in metadata):
        raise TokenizerError(
            f"tokenizer: model '{model}' ({PREFIX}model) is not supported; supported: {', '.join(MODELS)}"
        )
    return str(model)


def _need(metadata: Mapping[str, Any], key: str) -> Sequence[str]:
    values = metadata.get(PREFIX + key)
    if values is None or isinstance(values, str) or not len(values):
        raise TokenizerError(
            f"tokenizer: the metadata has no list '{PREFIX}{key}'; a GGUF with a vocabulary would work"
        )
    return values if isinstance(values, list) else list(values)


def _numbers(metadata: Mapping[str, Any], key: str, dtype: np.dtype[Any], count: int) -> NDArray[Any] | None:
    values = metadata.get(PREFIX + key)
    if values is None:
        return None
    if len(values) < count:
        raise TokenizerError(
            f"tokenizer: '{PREFIX}{key}' has {len(values)} entries for {count} tokens; one per token is needed"
        )
    return np.asarray(values, dtype)[:count]


def _table(metadata: Mapping[str, Any]) -> bytes | None:
    values = metadata.get(PREFIX + "precompiled_charsmap")
    return None if values is None else np.asarray(values).astype(np.uint8).tobytes()


def _role_ids(metadata: Mapping[str, Any], model: str, count: int) -> dict[str, int]:
    ids = {role: i for role, i in _DEFAULT_IDS.get(model, {}).items() if i < count}
    for role, keys in _ROLES.items():
        for key in keys:
            value = metadata.get(f"{PREFIX}{key}_token_id")
            if value is not None and 0 <= int(value) < count:
                ids[role] = int(value)
                break
    if model == "bert":
        ids["eos"] = ids.setdefault("sep", ids.get("eos", 0))
    return ids


def _stop_ids(
    metadata: Mapping[str, Any], tokens: Sequence[str], types: NDArray[np.int32], ids: Mapping[str, int]
) -> frozenset[int]:
    by_text = {tokens[i]: i for i in _special(types)}
    if "<eos>" in by_text:  # then </s> is a tag of HTML
        by_text.pop("</s>", None)
    named = {by_text[name] for name in _STOPS if name in by_text}
    if any(seam <= by_text.keys() for seam in SEAMS):
        named.discard(by_text.get("<|end|>", -1))
    listed = _listed(metadata, "eos_token_ids", len(tokens))
    return frozenset(named | listed | {ids[role] for role in ("eos", "eot", "eom") if role in ids})


def _scheme(metadata: Mapping[str, Any], model: str) -> Scheme:
    if model not in BYTE_PAIRS:
        return find_scheme("default")
    name = metadata.get(PREFIX + "pre")
    if name is None and model == "gpt2":
        _log.warning(
            "tokenizer: the metadata has no '%spre'; text is split as 'default', as older files meant, and ids can "
            "differ from the model's own; a file converted again would name its pre-tokenizer",
            PREFIX,
        )
    scheme = find_scheme(name or "default" if model == "gpt2" else model)
    form = metadata.get(PREFIX + "normalizer.unicode", scheme.normalize or "none")
    if form not in ("none", "NFC", "NFD", "NFKC", "NFKD"):
        raise TokenizerError(
            f"tokenizer: '{PREFIX}normalizer.unicode' is '{form}'; none, NFC, NFD, NFKC or NFKD would work"
        )
    return replace(scheme, normalize=None if form == "none" else form)


def _adds(metadata: Mapping[str, Any], role: str, wanted: bool, ids: Mapping[str, int]) -> bool:
    if wanted and role not in ids and metadata.get(f"{PREFIX}add_{role}_token"):
        raise TokenizerError(
            f"tokenizer: '{PREFIX}add_{role}_token' is true, '{PREFIX}{role}_token_id' names no token; both are needed"
        )
    return wanted and role in ids


def _skip_space_after(metadata: Mapping[str, Any], tokens: Sequence[str], types: NDArray[np.int32]) -> frozenset[int]:
    # The ecosystem has no key for this; llama.cpp goes by the model's name as well.
    if PREFIX + "rstrip_token_ids" in metadata:
        return _listed(metadata, "rstrip_token_ids", len(tokens))
    name = str(metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    return frozenset(i for i in _special(types) if tokens[i] not in ("<s>", "<|endoftext|>"))


def _listed(metadata: Mapping[str, Any], key: str, count: int) -> frozenset[int]:
    return frozenset(int(i) for i in metadata.get(PREFIX + key, ()) if 0 <= int(i) < count)


def _special(types: NDArray[np.int32]) -> list[int]:
    return [int(i) for i in np.flatnonzero((types == TokenType.CONTROL) | (types == TokenType.USER_DEFINED))]
