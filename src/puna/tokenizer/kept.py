"""Decides by behaviour whether plain GGUF keys are enough, or a tokenizer.json must be kept whole beside them.

A whole one is 2 to 30 MB, which every copy of the model would carry, so it is kept only where it is needed: where a
part of it has no form in GGUF, or texts become other ids. Opening a file does not read it.
"""

from collections.abc import Mapping
from typing import Any

from puna.errors import ConversionError, TokenizerError
from puna.tokenizer.check import PROBES, differences_from_json
from puna.tokenizer.draft import Draft
from puna.tokenizer.full import full_text, open_library
from puna.tokenizer.tokenizer import load_tokenizer
from puna.tokenizer.vocabulary import FULL, TokenType

Spec = dict[str, Any]


def keep_full(draft: Draft, metadata: Mapping[str, Any], spec: Spec | None) -> dict[str, str]:
    """The key that keeps `spec`, the tokenizer.json that `metadata` should say, if that is needed; else nothing.

    Why is added to the draft's warnings. ConversionError where it is needed and the library cannot read it.
    """
    if spec is None:
        draft.warnings += [f"{draft.source}: {problem}; ids can differ" for problem in draft.problems]
        return {}
    spec = _completed(draft, spec)
    problems = draft.problems or _differing(draft, metadata, spec)
    if not problems:
        return {}
    text = full_text(spec)
    try:
        open_library(text, draft.source)
    except TokenizerError as error:
        raise ConversionError(f"{draft.source}: {'; '.join(problems)}; {error}") from error
    size = f"{len(text.encode()) / 1e6:.1f} MB"
    draft.warnings.append(
        f"{draft.source}: {'; '.join(problems)}; all of it is kept as '{FULL}' ({size}), with which Puna tokenizes "
        f"exactly; {_elsewhere(draft)}"
    )
    return {FULL: text}


def _differing(draft: Draft, metadata: Mapping[str, Any], spec: Spec) -> list[str]:
    try:
        found = differences_from_json(load_tokenizer(metadata), spec)
    except TokenizerError as error:
        draft.warnings.append(f"{draft.source}: GGUF's keys could not be compared with it: {error}")
        return []
    if not found:
        return []
    return [f"GGUF's keys give other ids for {len(found)} of about {len(PROBES)} test texts, such as {found[0].text!r}"]


def _elsewhere(draft: Draft) -> str:
    if draft.model == "none":
        return "llama.cpp cannot tokenize with it"
    if draft.model == "gpt2":
        return f"llama.cpp has no name for it, takes it as '{draft.pre}' ('tokenizer.ggml.pre'), and can give other ids"
    return f"llama.cpp takes it as plain '{draft.model}' ('tokenizer.ggml.model'), and can give other ids"


def _completed(draft: Draft, spec: Spec) -> Spec:
    """The tokenizer.json with the tokens that other files add, and with all that are control tokens marked special."""
    known = {int(token["id"]) for token in spec.get("added_tokens") or ()}
    added = [*(spec.get("added_tokens") or ()), *(token for token in draft.listed if token["id"] not in known)]
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    control = {i for i, kind in enumerate(draft.types) if kind in special}
    return {**spec, "added_tokens": [{**token, "special": int(token["id"]) in control} for token in added]}
