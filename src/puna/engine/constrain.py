"""Answers that have to match a grammar: which tokens may come next, and which must. `llguidance` does the work.

A format is "json", a JSON Schema, or {"type": "regex", "pattern": ...}, {"type": "lark", "grammar": ...} or
{"type": "gbnf", "grammar": ...}. Knows no model and no template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, gbnf_to_lark
from numpy.typing import NDArray

from puna.errors import RequestError
from puna.tokenizer import Tokenizer
from puna.tokenizer.spelling import spellings
from puna.tokenizer.vocabulary import TokenType

F32 = NDArray[np.float32]
SPACE: Any = {"whitespace_pattern": r"[ \n\t]{0,32}"}
"""What may stand between the parts of JSON: no model shall go on with space for ever."""
SLICES = [r'[^"\\\x00-\x1F\x7F]{1,10}', r'[^"\\\x00-\x1F\x7F]+']
"""Texts whose tokens are kept apart, so that what may come is known of all of them at once: inside of strings.

Two of the library's four: each takes some 9 MB and 35 ms of 150,000 tokens, and the others bring little.
"""
KEPT = 512
"""Grammars of which it is known whether they are refused."""
SPECIAL = (TokenType.CONTROL, TokenType.UNKNOWN)


class Vocabulary:
    """A tokenizer as grammars need it; making one reads the whole vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ends = sorted(tokenizer.stop_ids)
        if not self.ends:
            raise RequestError("format: the model has no token that ends an answer, so none can be held to a grammar")
        self._special = {tokenizer.tokens[i]: i for i in tokenizer.vocabulary.of_type(*SPECIAL)}
        words = _Words(tokenizer)
        self.library = LLTokenizer(TokenizerWrapper(words), eos_token=self.ends, slices=SLICES)
        words.tokens.clear()  # the library has its own by now
        self.refusals: dict[str, str] = {}  # what is wrong with grammars, empty for nothing

    def is_special(self, tag: str) -> bool:
        """Whether a tag is a control token."""
        return tag in self._special

    def tags(self, text: str) -> list[str]:
        """The control tokens that a text is written with."""
        return [part for part in self._parts(text) if part in self._special]

    def written(self, text: str, *, ends: bool = False) -> str:
        """A text as a Lark grammar has it, control tokens by number.

        Where it `ends` the answer, control tokens that do so are left out: the end comes of itself.
        """
        parts = self._parts(text)
        while ends and parts and self._special.get(parts[-1]) in self.ends:
            parts.pop()
        return " ".join(
            f"<[{self._special[part]}]>" if part in self._special else json.dumps(part, ensure_ascii=False)
            for part in parts
        )

    def others(self, but: Sequence[str]) -> str:
        """The control tokens that end nothing and are none of these, as a Lark grammar has them; empty if none."""
        ids = sorted(set(self._special.values()) - {self._special.get(tag) for tag in but} - set(self.ends))
        starts = [i for i in ids if i - 1 not in ids]
        stops = [i for i in ids if i + 1 not in ids]
        return f"<[{','.join(f'{a}-{b}' for a, b in zip(starts, stops, strict=True))}]>" if ids else ""

    def _parts(self, text: str) -> list[str]:
        found = sorted((tag for tag in self._special if tag and tag in text), key=len, reverse=True)
        return (
            [part for part in re.split(f"({'|'.join(map(re.escape, found))})", text) if part]
            if found
            else [text] * bool(text)
        )


class _Words:
    """What `llguidance` asks of a tokenizer, which takes `tokens` once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = min(tokenizer.stop_ids)
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = tokenizer.vocabulary.of_type(*SPECIAL)
        self.tokens = spellings(tokenizer)

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special=False)


class Constraint:
    """The state of one answer that has to match a grammar."""

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        """RequestError says what is wrong with the grammar, or is not supported in it."""
        self._ends = vocabulary.ends
        self._matcher = LLMatcher(vocabulary.library, grammar, log_level=0)
        if self._matcher.is_error():
            raise RequestError(f"format: {_reason(self._matcher.get_error())}")

    @property
    def complete(self) -> bool:
        """Whether nothing can come any more but the end."""
        return bool(self._matcher.is_stopped())

    def masked(self, logits: F32) -> F32:
        """Logits (vocab,), minus infinity for every token that may not come; those of the end may when it is whole."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        self._check()
        out = np.full_like(logits, -np.inf)  # rows beyond the vocabulary, which pad the matrix, too
        known = min(len(bits), len(logits))
        np.copyto(out[:known], logits[:known], where=bits[:known].view(np.bool_))
        return out

    def take(self, token: int) -> list[int]:
        """Go on with a token; what must come after it, if that is certain."""
        if token in self._ends and self._matcher.is_accepting():
            return []
        self._matcher.consume_token(token)
        self._check()
        forced = [] if self.complete else list(self._matcher.compute_ff_tokens())
        for each in forced:
            self._matcher.consume_token(each)
        self._check()
        return forced

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RequestError(f"format: the grammar cannot go on: {_reason(self._matcher.get_error())}")


def grammar_of(form: Any) -> str:
    """The grammar of a format; RequestError where it is none."""
    if form == "json":
        return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=SPACE)
    if not isinstance(form, Mapping):
        raise RequestError(f'format: {form!r:.80} is no format; "json" or a JSON Schema would work')
    kind = form.get("type")
    try:
        if kind == "regex":
            return LLMatcher.grammar_from_regex(_text(form, "pattern"))
        if kind == "lark":
            return LLMatcher.grammar_from_lark(_text(form, "grammar"))
        if kind == "gbnf":
            return LLMatcher.grammar_from_lark(gbnf_to_lark.gbnf_to_lark(_text(form, "grammar")))
        return LLMatcher.grammar_from_json_schema(json.dumps(closed(form)), overrides=SPACE)
    except ValueError as error:
        raise RequestError(f"format: {_reason(str(error))}") from error


def json_rule(schema: Mapping[str, Any]) -> str:
    """What a rule of a Lark grammar has for a value that follows a JSON Schema."""
    return f"%json {json.dumps(closed(schema) | {'x-guidance': SPACE})}"


def refusal(vocabulary: Vocabulary, grammar: str) -> str:
    """What is wrong with a Lark grammar, or not supported in it; empty if nothing is. Kept: who asks asks again."""
    known = vocabulary.refusals
    if grammar not in known:
        error = LLMatcher(vocabulary.library, LLMatcher.grammar_from_lark(grammar), log_level=0).get_error()
        if len(known) >= KEPT:
            known.clear()
        known[grammar] = _reason(error) if error else ""
    return known[grammar]


def thought_first(vocabulary: Vocabulary, tags: tuple[str, str], *, begun: bool) -> str:
    """Rules for a model that may think between `tags` before its `@answer`; where it has `begun` to, it has to end."""
    opening, closing = (vocabulary.written(tag) for tag in tags)
    ends = f"thought[suffix={closing}]: /(?s:.*)/" if closing.startswith('"') else f"thought: /(?s:.*)/ {closing}"
    start = "thought SPACE @answer" if begun else f"SPACE ({opening} thought SPACE @answer | @answer)"
    return f"start: {start}\n{ends}\nSPACE: /\\s{{0,8}}/\n"


def led_by(rules: str, grammar: str = "") -> str:
    """The grammar, if there is one, in the place of `@answer` in the rules of a Lark grammar."""
    grammars = json.loads(grammar)["grammars"] if grammar else []
    named = [grammars[0] | {"name": "answer"}, *grammars[1:]] if grammars else []
    return json.dumps({"grammars": [{"lark_grammar": rules}, *named]})


def closed(schema: Any) -> Any:
    """A schema whose objects have the properties that it lists and no others, unless it says that they may.

    That is what people mean who list them; and a model that may go on with properties of its own often does, for ever.
    What `allOf` puts together is left as it is.
    """
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    parts = {name: _closed_part(name, part) for name, part in schema.items()}
    listed = isinstance(schema.get("properties"), Mapping) and not OPEN & set(schema)
    return parts | ({"additionalProperties": False} if listed else {})


def _closed_part(name: str, part: Any) -> Any:
    if name in PLAIN:
        return part
    named = name in ("properties", "$defs", "definitions") and isinstance(part, Mapping)
    return {key: closed(value) for key, value in part.items()} if named else closed(part)


OPEN = {"additionalProperties", "patternProperties", "allOf", "$ref", "unevaluatedProperties"}
"""Keywords beside which the properties that are listed are not all there may be."""
PLAIN = ("allOf", "const", "enum", "default", "examples")
"""Keywords whose values are no schemas, or are to be left as they are."""


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name)
    if not isinstance(value, str):
        raise RequestError(f"format: of type {form['type']} it needs {name!r}, a text")
    return value


def _reason(message: str) -> str:
    """The first line that says something."""
    return next((line for line in message.splitlines() if line.strip()), "not understood").strip()[:300]
