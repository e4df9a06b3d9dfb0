"""The Python package `anthropic`."""

import string
from typing import Literal

import anthropic
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather.", "input_schema": SCHEMA}


class Letter(BaseModel):
    letter: Literal["q", "r"]


@pytest.fixture(scope="module")
def client(url):
    return anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0)


def test_a_message(client):
    answer = client.messages.create(model="tiny", max_tokens=100, messages=HELLO)
    assert [(block.type, block.text) for block in answer.content] == [("text", string.ascii_lowercase)]
    assert (answer.role, answer.stop_reason, answer.usage.output_tokens) == ("assistant", "end_turn", 27)


def test_a_message_that_is_cut_and_one_that_is_stopped(client):
    cut = client.messages.create(model="tiny", max_tokens=3, messages=HELLO)
    assert (cut.content[0].text, cut.stop_reason) == ("abc", "max_tokens")
    ask = {"model": "tiny", "max_tokens": 100, "messages": HELLO, "stop_sequences": ["e"]}
    stopped = client.messages.create(**ask)
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == ("abcd", "stop_sequence", "e")


def test_an_answer_in_a_form_is_parsed(client):
    answer = client.messages.parse(model="tiny", max_tokens=200, messages=HELLO, output_format=Letter)
    assert answer.parsed_output.letter in "qr"


def test_no_tool_is_called_where_none_may_be(client):
    ask = {"model": "caller", "max_tokens": 2000, "messages": HELLO, "tools": [WEATHER]}
    answer = client.messages.create(**ask, tool_choice={"type": "none"})
    assert answer.stop_reason == "end_turn"
    assert {block.type for block in answer.content} == {"thinking", "text"}


def test_a_stream_that_is_gathered(client):
    with client.messages.stream(model="tiny", max_tokens=100, messages=HELLO, system="Be brief.") as stream:
        assert "".join(stream.text_stream) == string.ascii_lowercase
        answer = stream.get_final_message()
    assert answer.content[0].text == string.ascii_lowercase
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 27)
    assert answer.usage.input_tokens > 0


def test_events_of_a_stream(client):
    events = client.messages.create(model="tiny", max_tokens=2, messages=HELLO, stream=True)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_tool_is_called_after_thinking_and_its_result_sent_back(client):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    ask = {"model": "caller", "max_tokens": 2000, "tools": [WEATHER], "thinking": thinking}
    with client.messages.stream(messages=HELLO, **ask) as stream:
        kinds = {event.type for event in stream}
        streamed = stream.get_final_message()
    assert {"thinking", "input_json"} <= kinds
    for answer in (client.messages.create(messages=HELLO, **ask), streamed):
        thought, call = answer.content
        assert (thought.type, thought.thinking) == ("thinking", "I should ask.")
        assert isinstance(thought.signature, str)
        assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Paris"})
        assert answer.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
        told = [*HELLO, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        assert [block.text for block in client.messages.create(messages=told, **ask).content] == ["It is sunny."]


def test_models(client):
    found = {model.id: model for model in client.models.list()}
    assert set(found) >= {"tiny:latest", "caller:latest"}
    assert (found["tiny:latest"].type, found["tiny:latest"].display_name) == ("model", "tiny:latest")
    assert client.models.retrieve("tiny").created_at == found["tiny:latest"].created_at


def test_tokens_are_counted(client):
    one = client.messages.count_tokens(model="tiny", messages=HELLO).input_tokens
    two = client.messages.count_tokens(model="tiny", messages=[{"role": "user", "content": "hello!"}]).input_tokens
    assert (one, two) == (len("?user\nhello?\n?assistant\n"), one + 1)
    assert client.messages.count_tokens(model="caller", messages=HELLO, tools=[WEATHER]).input_tokens > 100


def test_what_cannot_be_is_an_error(client):
    with pytest.raises(anthropic.NotFoundError, match="not found"):
        client.messages.create(model="nothing", max_tokens=1, messages=HELLO)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nothing", max_tokens=1, messages=HELLO, stream=True)
    with pytest.raises(anthropic.BadRequestError, match="256"):
        client.messages.create(model="tiny", max_tokens=1, messages=[{"role": "user", "content": "x" * 400}])
