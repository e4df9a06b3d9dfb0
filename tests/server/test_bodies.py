"""What a client is told of a body that is none, and fields that are null."""

import pytest

from puna.server.bodies import decoded, decoder_of
from puna.server.errors import Refused, for_path
from puna.worker.requests import Generate


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"model": "tiny"', "the JSON ends in its midst, after 16 bytes"),
        (b'{"model": "tiny",\n "prompt" 5}', r"no JSON: Expecting ':' delimiter \(line 2, column 11\)"),
        (b'{"model": "\xff"}', "byte 11 is not UTF-8"),
        (b'{"model": 5}', "model is a whole number; a text would work"),
        (b'{"options": []}', "options is a list; an object or null would work"),
        (b'{"images": [1]}', r"images\[0\] is a whole number; a text would work"),
        (b"[]", "the body is a list; an object would work"),
        (b" ", "missing request body"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_by_what_is_wrong_and_where(body, said):
    with pytest.raises(Refused, match=said):
        decoded(decoder_of(Generate), body)


def test_a_field_that_is_null_is_not_given():
    body = b'{"model": "tiny", "prompt": "hi", "system": null, "suffix": null, "template": null, "raw": null}'
    assert decoded(decoder_of(Generate), body) == Generate(model="tiny", prompt="hi")


def test_a_null_elsewhere_hides_nothing_that_is_wrong():
    with pytest.raises(Refused, match="prompt is true or false"):
        decoded(decoder_of(Generate), b'{"prompt": true, "system": null}')


def test_truncation_is_told_as_the_api_that_was_asked_has_it():
    said = "shorten the prompt or raise num_ctx or ask for truncation"
    assert for_path(said, "/api/chat") == 'shorten the prompt or raise num_ctx or pass "truncate": true'
    assert for_path(said, "/v1/responses") == 'shorten the prompt or raise num_ctx or pass "truncation": "auto"'
    assert for_path(said, "/v1/chat/completions") == "shorten the prompt or raise num_ctx"
