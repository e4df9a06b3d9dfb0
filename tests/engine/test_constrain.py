"""Answers that have to match a grammar, drawn from random logits over a small vocabulary."""

import json
import re

import numpy as np
import pytest

from cli.tiny import metadata
from puna.engine.constrain import Constraint, Vocabulary, grammar_of, led_by, thought_first
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.sampler import Sampling
from puna.engine.sequence import StopReason
from puna.errors import RequestError
from puna.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer(metadata())
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(TOKENIZER)


class Noise:
    """A model whose logits are random, and too wide by a few rows, as matrices are."""

    recurrent = False
    copy = None
    width = TOKENIZER.vocab_size + 6
    limits = Limits(slots=512, states=0, tokens=64, outputs=8, sequences=4, table=8)

    def __init__(self):
        self.steps = []
        self._rng = np.random.default_rng(1)

    @staticmethod
    def best(logits, count):
        return np.argsort(-logits, kind="stable")[:count]

    def step(self, parts, outputs):
        self.steps.append([len(part.tokens) for part in parts])
        return self._rng.normal(size=(len(outputs), self.width)).astype(np.float32)


def said(vocabulary, form, seed=0, limit=400, **options):
    model = Noise()
    engine = Engine(model, 512)
    constraint = Constraint(vocabulary, grammar_of(form))
    sequence = engine.submit(
        [10], Sampling(seed=seed, **options), limit=limit, stop_ids=TOKENIZER.stop_ids, constraint=constraint
    )
    tokens = [choice.token for choice in engine.tokens(sequence)]
    return TOKENIZER.decode(tokens), sequence.reason, model.steps


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"mirostat": 2}, {"top_k": 1}, {"typical_p": 0.5}])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_drawn_matches_the_schema(vocabulary, seed, options):
    text, reason, _ = said(vocabulary, PERSON, seed, **options)
    if reason is StopReason.STOP:
        person = json.loads(text)
        assert set(person) == {"name", "age"}
        assert len(person["name"]) <= 5
        assert person["age"] <= 99


def test_json_is_an_object(vocabulary):
    whole = [
        text for seed in range(20) for text, reason, _ in [said(vocabulary, "json", seed)] if reason is StopReason.STOP
    ]
    assert whole
    assert all(isinstance(json.loads(text), dict) for text in whole)


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"type": "regex", "pattern": "[a-c]{3}x+y"}, "[a-c]{3}x+y"),
        ({"type": "lark", "grammar": 'start: "yes" | "no"'}, "yes|no"),
        ({"type": "gbnf", "grammar": 'root ::= "on" | "off"'}, "on|off"),
    ],
)
def test_a_format_may_be_a_regex_or_a_grammar(vocabulary, form, pattern):
    text, reason, _ = said(vocabulary, form)
    assert reason is StopReason.STOP
    assert re.fullmatch(pattern, text)


def test_what_must_come_is_not_computed_token_by_token(vocabulary):
    form = {"type": "regex", "pattern": "(one|two) certain text that follows"}
    text, reason, steps = said(vocabulary, form)
    assert text[3:] == " certain text that follows"
    assert reason is StopReason.STOP
    assert len(steps) <= 2


def test_an_answer_ends_at_its_limit_among_forced_tokens_too(vocabulary):
    text, reason, _ = said(vocabulary, {"type": "regex", "pattern": "abcdefgh"}, limit=3)
    assert (text, reason) == ("abc", StopReason.LENGTH)


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"type": "strange"}, "strange"),
        ({"type": "regex", "pattern": "[a-"}, "regex"),
        ({"type": "regex"}, "'pattern'"),
        ({"type": "lark", "grammar": "start: nothing"}, "nothing"),
        ("xml", "'xml'"),
        (5, "5"),
        (["json"], "json"),
    ],
)
def test_a_format_that_is_not_supported_is_refused_by_what_is_wrong(vocabulary, form, wrong):
    with pytest.raises(RequestError, match=re.escape(wrong)):
        Constraint(vocabulary, grammar_of(form))


def fits(vocabulary, grammar, text):
    """Whether tokens of the text may come one after another, and whether it is whole then."""
    constraint = Constraint(vocabulary, grammar)
    for token in TOKENIZER.encode(text, special=False):
        logits = constraint.masked(np.zeros(TOKENIZER.vocab_size, np.float32))
        if not np.isfinite(logits[token]):
            return False
        constraint._matcher.consume_token(token)
    return bool(constraint._matcher.is_accepting())


@pytest.mark.parametrize(
    ("begun", "text", "fitting"),
    [
        (False, '<think>hm, {"a"</think>\n\n{"a": 1}', True),
        (False, '{"a": 1}', True),
        (False, 'hm</think>{"a": 1}', False),
        (False, "<think>hm</think>no", False),
        (True, 'hm</think>{"a": 1}', True),
        (True, "hm</think>no", False),
        (True, '{"a": 1}', False),
    ],
)
def test_an_answer_may_be_thought_about_first(vocabulary, begun, text, fitting):
    rules = thought_first(vocabulary, ("<think>", "</think>"), begun=begun)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    assert fits(vocabulary, led_by(rules, grammar_of(schema)), text) is fitting


def test_space_in_json_does_not_go_on_for_ever(vocabulary):
    assert fits(vocabulary, grammar_of("json"), "{" + " " * 20 + "}")
    assert not fits(vocabulary, grammar_of("json"), "{" + " " * 60 + "}")


def test_an_object_has_the_properties_that_its_schema_lists_and_no_others(vocabulary):
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "integer"}}}}}
    assert fits(vocabulary, grammar_of(schema), '{"a": {"b": 1}}')
    assert not fits(vocabulary, grammar_of(schema), '{"a": {"c": 1}}')
    assert not fits(vocabulary, grammar_of(schema), '{"x": 1}')
    assert fits(vocabulary, grammar_of(schema | {"additionalProperties": True}), '{"x": 1}')
