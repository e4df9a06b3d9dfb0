"""Thinking that may take so many tokens, of a model that says anything: random logits."""

import json

import pytest

from puna.engine.budget import Budget, Thoughts
from puna.errors import RequestError
from puna.generation import parse_options
from puna.template.parsing import find_format, open_parser
from test_calling import answering

TAGS = ("<think>", "</think>")
THOUGHTS = Thoughts(b"<t>", b"</t>", lambda token: bytes([token]), list(b"\n</t>\n\n"))


def taken(budget, text):
    """What has to come behind each character, where anything has to."""
    return {i: bytes(forced) for i, each in enumerate(text) if (forced := budget.take(each))}


@pytest.mark.parametrize(
    ("text", "most", "begun", "forced"),
    [
        (b"abcdef", 3, True, {2: b"\n</t>\n\n"}),
        (b"abcdef", 0, True, {0: b"\n</t>\n\n"}),
        (b"abcdef", 3, False, {}),
        (b"ab</t>cdefghi", 7, True, {}),
        (b"x<t>abcdef", 3, False, {6: b"\n</t>\n\n"}),
        ("aé€b".encode(), 2, True, {2: b"\n</t>\n\n"}),
        ("aé€b".encode(), 4, True, {5: b"\n</t>\n\n"}),
        (b"<t>ab</t>cd<t>efghijkl", 8, False, {15: b"\n</t>\n\n"}),
    ],
)
def test_thinking_is_ended_when_it_took_as_much_as_it_may(text, most, begun, forced):
    assert taken(Budget(most, THOUGHTS, begun=begun), text) == forced


def said(options, form=None, seed=0, think=True):
    """Thoughts and content, and how many tokens came."""
    parser = open_parser(find_format("qwen3"), think=think)
    parsed = parse_options({}, {"temperature": 1, "top_k": 0, "top_p": 1, "seed": seed, "num_predict": 150, **options})
    chunks = list(answering(TAGS, seed, "").answer([1], parsed, parser, form, {}))
    tokens = sum(len(chunk.tokens) for chunk in chunks)
    return "".join(c.thinking for c in chunks), "".join(c.text for c in chunks), tokens


NEVER_ENDS = {"logit_bias": {256: -1000, 257: -1000, 258: -1000}}
"""Of its own accord it neither ends an answer nor thinking."""


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_goes_on_behind_thinking_that_was_ended(seed):
    unbounded, nothing, all_of_it = said(NEVER_ENDS, seed=seed)
    assert (nothing, all_of_it) == ("", 150)
    thinking, content, count = said(NEVER_ENDS | {"num_think": 12}, seed=seed)
    assert unbounded.startswith(thinking)
    assert 1 <= len(thinking) <= 12
    assert (bool(content), count) == (True, 150)


@pytest.mark.parametrize("seed", range(4))
def test_what_comes_behind_is_held_to_its_format(seed):
    schema = {"type": "object", "properties": {"a": {"enum": ["q", "r"]}}, "required": ["a"]}
    thinking, content, _ = said(NEVER_ENDS | {"num_think": 12}, schema, seed)
    assert 1 <= len(thinking) <= 12
    assert json.loads(content)["a"] in ("q", "r")


def test_what_does_not_think_has_no_budget():
    assert said(NEVER_ENDS | {"num_think": 1}, think=False) == said(NEVER_ENDS, think=False)


@pytest.mark.parametrize("count", ["many", 1.5, True])
def test_a_budget_is_a_whole_number(count):
    with pytest.raises(RequestError, match="num_think"):
        parse_options({}, {"num_think": count})
