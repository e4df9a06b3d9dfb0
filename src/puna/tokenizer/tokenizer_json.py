"""Reads Hugging Face's `tokenizer.json` into a draft of GGUF metadata, whatever its kind.

What GGUF has no key for is named in the draft's `problems`; the tokenizer.json itself must then be kept beside the
keys. It does not know the files beside it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from puna.errors import ConversionError
from puna.tokenizer.draft import Draft, added_type, plain_spaces
from puna.tokenizer.pieces import SPACE
from puna.tokenizer.pretokenize import SCHEMES
from puna.tokenizer.recognize import find_name
from puna.tokenizer.unigram_json import unigrams
from puna.tokenizer.vocabulary import TokenType

Json = Mapping[str, Any]


def parse_tokenizer_json(spec: Json) -> Draft:
    """The vocabulary in a parsed `tokenizer.json`; ConversionError where it is none."""
    model = as_dict(spec.get("model"))
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind == "WordPiece":
        draft = _word_pieces(spec, model)
    elif kind == "Unigram":
        draft = unigrams(model, [*steps_of(spec, "normalizer"), *steps_of(spec, "pre_tokenizer")])
    elif kind == "BPE" and any(step.get("type") == "ByteLevel" for step in steps_of(spec, "pre_tokenizer")):
        draft = _byte_level(spec, model)
    elif kind == "BPE" and (model.get("byte_fallback") or _marks_spaces(spec)) and not model.get("end_of_word_suffix"):
        draft = _scored(spec, model)
    elif kind == "BPE" and _drops_spaces(spec, model):
        draft = _spaceless(spec, model)
    else:
        draft = Draft("none", "default", *_tokens(model))
        draft.problems.append(f"its model of type {kind} has no form in GGUF")
    complete(draft, spec)
    return draft


def complete(draft: Draft, spec: Json) -> None:
    """Puts into `draft` what a `tokenizer.json` says beside its model: added tokens, and the ends of a text."""
    _add_tokens(draft, spec.get("added_tokens") or ())
    _add_ends(draft, spec)


def steps_of(spec: Json, name: str, inner: str | None = None) -> list[Json]:
    """The steps of a normalizer, pre_tokenizer or post_processor, nested sequences opened."""
    step = spec.get(name)
    if not step:
        return []
    key = inner or {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}[name]
    if step.get("type") != "Sequence":
        return [step]
    return [found for item in step.get(key, ()) for found in steps_of({name: item}, name, key)]


def as_dict(value: Any) -> Mapping[str, Any]:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _byte_level(spec: Json, model: Json) -> Draft:
    forms = [step["type"] for step in steps_of(spec, "normalizer")]
    tokens, types = _tokens(model)
    plain = len(forms) <= 1 and set(forms) <= {"NFC", "NFD", "NFKC", "NFKD"}
    form = forms[0] if forms and plain else None
    name, problem = find_name(as_dict(spec.get("pre_tokenizer")), form, bool(model.get("ignore_merges")))
    draft = Draft("gpt2", name, tokens, types, merges=_merges(model))
    if not plain:
        draft.problems.append(f"its normalizer {forms} has no form in GGUF")
    if problem:
        draft.problems.append(problem)
    if any(step.get("add_prefix_space") for step in steps_of(spec, "pre_tokenizer")):
        draft.problems.append("it puts a space before text, which GGUF cannot say of byte-level BPE")
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        draft.problems.append("it marks the ends of words, which GGUF cannot say")
    if SCHEMES[name].normalize != form:  # llama.cpp does not know this key, and never normalizes
        draft.flags["normalizer.unicode"] = form or "none"
    return draft


def _marks_spaces(spec: Json) -> bool:
    """Whether spaces become U+2581."""
    steps = [*steps_of(spec, "normalizer"), *steps_of(spec, "pre_tokenizer")]
    return any(SPACE in (step.get("replacement"), step.get("content")) for step in steps)


def _drops_spaces(spec: Json, model: Json) -> bool:
    """Whether white space is left out, and nothing done to text but to make it lower-case."""
    forms = [step.get("type") for step in steps_of(spec, "normalizer")]
    kinds = [step.get("type") for step in steps_of(spec, "pre_tokenizer")]
    marks = model.get("end_of_word_suffix") or model.get("continuing_subword_prefix")
    return kinds in (["Whitespace"], ["WhitespaceSplit"]) and forms in ([], ["Lowercase"]) and not marks


def _spaceless(spec: Json, model: Json) -> Draft:
    tokens, types = _tokens(model)
    draft = Draft("whitespace", "whitespace", tokens, types, merges=_merges(model))
    draft.flags["normalizer.lowercase"] = bool(steps_of(spec, "normalizer"))
    if (unknown := model.get("unk_token")) in tokens:
        draft.ids["unk"] = tokens.index(unknown)
        types[draft.ids["unk"]] = TokenType.UNKNOWN
    return draft


def _scored(spec: Json, model: Json) -> Draft:
    tokens, types = _tokens(model)
    draft = Draft("llama", "default", tokens, types)
    for i, token in enumerate(tokens):
        if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            types[i] = TokenType.BYTE
        elif token == model.get("unk_token"):
            types[i], draft.ids["unk"] = TokenType.UNKNOWN, i
    draft.flags["add_space_prefix"] = prefix = _prefixes(spec, draft)
    ranks, scattered = _ranks(spec, model)
    if scattered and not prefix:  # llama.cpp has a model of merges for this, but without a space before text
        draft.model = draft.pre = "gemma4"
        draft.merges = _merges(model)
        return draft
    if scattered:
        draft.problems.append(
            f"the merges that make {scattered!r} do not stand together, so that no scores can say their order"
        )
    for i, token in enumerate(tokens):
        if types[i] == TokenType.NORMAL and len(token) > 1 and token not in ranks:
            types[i] = TokenType.UNUSED  # nothing joins into it
    draft.scores = [-float(ranks.get(token, len(ranks))) for token in tokens]
    return draft


def _ranks(spec: Json, model: Json) -> tuple[dict[str, int], str]:
    """For each token its place in the order of the merges, and a token that has several, or none.

    Without such a token, scores by these make SentencePiece's rule (join what makes a token, best score first) follow
    the merges.
    """
    added = {token["content"] for token in spec.get("added_tokens") or ()}  # found in the text before any merge
    ranks: dict[str, int] = {}
    last = scattered = ""
    for left, right in _pairs(model):
        token = left + right
        if token != last and token in ranks and token not in added:
            scattered = scattered or token
        ranks.setdefault(token, len(ranks))
        last = token
    return ranks, scattered


def _prefixes(spec: Json, draft: Draft) -> bool:
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prefix = False
    for step in [*steps_of(spec, "normalizer"), *steps_of(spec, "pre_tokenizer")]:
        if step["type"] == "Prepend" and step.get("prepend") == SPACE:
            prefix = True
        elif step["type"] == "Metaspace" and step.get("replacement") == SPACE:
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            prefix = prefix or scheme != "never"
        elif dict(step) != spaces and not (step["type"] == "Split" and step.get("pattern") == {"String": " "}):
            draft.problems.append(f"its step {dict(step)} has no form in GGUF")
    return prefix


def _word_pieces(spec: Json, model: Json) -> Draft:
    tokens, types = _tokens(model)
    draft = Draft("bert", "default", tokens, types)
    steps = [*steps_of(spec, "normalizer"), *steps_of(spec, "pre_tokenizer")]
    kinds = [step["type"] for step in steps]
    normalizer: Json = steps[0] if kinds == ["BertNormalizer", "BertPreTokenizer"] else {}
    if not normalizer:
        draft.problems.append(f"its WordPiece comes after {kinds}, which has no form in GGUF")
    for what, value, wanted in (
        ("clean_text", normalizer.get("clean_text", True), True),
        ("handle_chinese_chars", normalizer.get("handle_chinese_chars", True), True),
        ("continuing_subword_prefix", model.get("continuing_subword_prefix", "##"), "##"),
        ("max_input_chars_per_word", model.get("max_input_chars_per_word", 100), 100),
    ):
        if value != wanted:
            draft.problems.append(f"its WordPiece has {what} {value!r}; GGUF can only say {wanted!r}")
    lowercase = bool(normalizer.get("lowercase", True))
    strips = normalizer.get("strip_accents")
    draft.flags |= {
        "normalizer.lowercase": lowercase,
        "normalizer.strip_accents": lowercase if strips is None else bool(strips),
    }
    prefix = model.get("continuing_subword_prefix", "##") or "##"
    for i, token in enumerate(tokens):
        if not (token.startswith("[") and token.endswith("]")):  # those never come out of splitting a text
            tokens[i] = token.removeprefix(prefix) if token.startswith(prefix) else SPACE + token
    unknown = draft.find(model.get("unk_token", "[UNK]"))
    if unknown is not None:
        draft.ids["unk"] = unknown
    return draft


def _tokens(model: Json) -> tuple[list[str], list[int]]:
    vocabulary: Mapping[str, int] = as_dict(model.get("vocab"))
    if not vocabulary:
        raise ConversionError("tokenizer.json: the model has no vocabulary; one with tokens would work")
    by_id = {i: token for token, i in vocabulary.items()}
    size = max(by_id) + 1
    if size > 2 * len(by_id) + 1024 or min(by_id) < 0:
        raise ConversionError(
            f"tokenizer.json: ids run to {size - 1} for {len(by_id)} tokens; ids without such gaps would work"
        )
    types = [int(TokenType.NORMAL if i in by_id else TokenType.UNUSED) for i in range(size)]
    return [by_id.get(i, f"[PAD{i}]") for i in range(size)], types


def _merges(model: Json) -> list[str]:
    """The merges as GGUF writes them."""
    given = model.get("merges") or ()
    try:
        merges = [entry if isinstance(entry, str) else " ".join(entry) for entry in given]
        wrong = next((m for m in merges if m.count(" ") != 1 or m[0] == " " or m[-1] == " "), None)
    except TypeError as error:
        raise ConversionError(f"tokenizer.json: a merge is no pair of tokens: {error}; 'a b' would work") from error
    if wrong is not None:
        raise ConversionError(f"tokenizer.json: merge {wrong!r} is no pair of tokens without spaces; 'a b' would work")
    return merges


def _pairs(model: Json) -> Iterator[tuple[str, str]]:
    for entry in model.get("merges") or ():
        left, _, right = entry.partition(" ") if isinstance(entry, str) else (entry[0], " ", entry[1])
        if not left or not right:
            raise ConversionError(f"tokenizer.json: merge {entry!r} is no pair of tokens; 'a b' would work")
        yield left, right


def _add_tokens(draft: Draft, added: Sequence[Json]) -> None:
    for token in sorted(added, key=lambda token: int(token["id"])):
        identity, text = int(token["id"]), str(token["content"])
        kind = added_type(text, bool(token.get("special")))
        known = identity < len(draft.tokens) and draft.types[identity] == TokenType.UNKNOWN
        if kind == TokenType.USER_DEFINED and draft.model in ("llama", "t5"):
            text = plain_spaces(text)
        draft.place(identity, text, TokenType.UNKNOWN if known else kind)
    for side in ("lstrip", "rstrip"):
        if strips := sorted(int(token["id"]) for token in added if token.get(side)):
            draft.flags[f"{side}_token_ids"] = strips


def _add_ends(draft: Draft, spec: Json) -> None:
    """What the post-processor puts around a text, as flags and as the ids of bos and eos."""
    template: Sequence[Json] = ()
    for step in steps_of(spec, "post_processor", "processors"):
        if step["type"] == "ByteLevel":
            draft.flags |= {"add_bos_token": False, "add_eos_token": False}
        elif step["type"] == "TemplateProcessing":
            template = step["single"]
        elif step["type"] in ("BertProcessing", "RobertaProcessing"):
            template = [
                {"SpecialToken": {"id": step["cls"][0]}},
                {"Sequence": {}},
                {"SpecialToken": {"id": step["sep"][0]}},
            ]
    if not template:
        return
    around = [item["SpecialToken"]["id"] if "SpecialToken" in item else None for item in template]
    if around.count(None) != 1:
        draft.problems.append(f"its post_processor {template} has no form in GGUF")
        return
    before, after = around[: around.index(None)], around[around.index(None) + 1 :]
    if len(before) > 1 or len(after) > 1:
        draft.problems.append(f"it puts {before} before and {after} after a text; GGUF can say one token on each side")
    for role, tokens in (("bos", before), ("eos", after[:1])):
        draft.flags[f"add_{role}_token"] = bool(tokens)
        if tokens and (identity := draft.find(str(tokens[0]))) is not None:
            draft.ids[role] = identity
