"""Messages are read from the dicts of Ollama's and OpenAI's APIs."""

import base64

import pytest

from puna.errors import RequestError
from puna.template import Message, ToolCall, parse_messages

PNG = b"\x89PNG\r\n"
PNG_TEXT = base64.b64encode(PNG).decode()


def test_a_message_in_the_form_of_ollama():
    message = {
        "role": "assistant",
        "content": "c",
        "thinking": "t",
        "images": [PNG_TEXT, PNG],
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}],
    }
    calls = [ToolCall("f", {"a": 1}), ToolCall("g", {}, index=1)]
    assert Message.from_dict(message) == Message("assistant", "c", "t", [PNG, PNG], calls)


def test_a_message_in_the_form_of_openai():
    parts = [
        {"type": "text", "text": "what is "},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_TEXT}"}},
        {"type": "text", "text": "this?"},
    ]
    assert Message.from_dict({"role": "user", "content": parts}) == Message("user", "what is this?", images=[PNG])
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = Message.from_dict({"role": "assistant", "content": None, "tool_calls": [call]})
    assert message == Message("assistant", tool_calls=[ToolCall("f", {"a": 1}, "c1")])
    assert message.tool_calls[0].to_dict() == {**call, "function": {"name": "f", "arguments": {"a": 1}}}


def test_a_tool_result_keeps_the_name_and_the_id():
    message = {"role": "tool", "content": "12", "name": "f", "tool_call_id": "c1"}
    assert Message.from_dict(message) == Message("tool", "12", tool_name="f", tool_call_id="c1")


def test_messages_and_dicts_mix():
    said = Message("user", "a")
    assert parse_messages([said, {"role": "user", "content": "b"}]) == [said, Message("user", "b")]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"content": "x"}, "role is None"),
        ({"role": "user", "content": 3}, "content is int"),
        ({"role": "user", "content": [{"type": "audio"}]}, "part .* unknown"),
        ({"role": "user", "images": ["%%%"]}, "not base64"),
        ({"role": "user", "images": ["https://example.org/a.png"]}, "web address"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "no name"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "not JSON"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}, "pass an object"),
        ("hi", "message 0: 'hi' is not a message"),
    ],
)
def test_a_bad_message_is_refused_with_the_reason(message, words):
    with pytest.raises(RequestError, match=words):
        parse_messages([message])
