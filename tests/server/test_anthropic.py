import json
import string

import pytest

from puna.server import translate_request

HELLO = [{"role": "user", "content": "hello"}]


def ask(live, path="messages", **body):
    given = {"model": "tiny", "max_tokens": 100, "messages": HELLO, "temperature": 0, **body}
    return live("POST", f"/v1/{path}", {name: value for name, value in given.items() if value is not None})


def events(reply):
    frames = [frame.split(b"\n") for frame in reply.body.strip().split(b"\n\n")]
    return [(name.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))) for name, data in frames]


def test_a_message_has_its_blocks_its_reason_and_usage(live):
    message = ask(live).json
    assert message["content"] == [{"type": "text", "text": string.ascii_lowercase}]
    assert (message["stop_reason"], message["role"]) == ("end_turn", "assistant")
    assert message["usage"]["output_tokens"] == 27
    assert ask(live, max_tokens=2).json["stop_reason"] == "max_tokens"


def test_a_stream_is_the_message_piece_by_piece(live):
    told = events(ask(live, stream=True, max_tokens=3))
    assert [name for name, _ in told] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == data["type"] for name, data in told)
    assert told[1][1]["content_block"] == {"type": "text", "text": ""}
    assert "".join(d["delta"]["text"] for n, d in told if n == "content_block_delta") == "abc"


def test_tokens_are_counted_as_the_prompt_has_them(live):
    counted = ask(live, "messages/count_tokens", max_tokens=None).json["input_tokens"]
    usage = ask(live, max_tokens=1).json["usage"]
    assert counted == usage["input_tokens"] + usage["cache_read_input_tokens"]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"model": ""}, "model is required"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages is required"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video'"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]}, "'id'"),
    ],
)
def test_what_makes_no_sense_is_400_in_anthropics_form(live, body, wrong):
    reply = ask(live, **body)
    assert reply.status == 400
    assert reply.json["type"] == "error"
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert wrong in reply.json["error"]["message"]


def test_results_of_tools_are_messages_of_their_own():
    content = [{"type": "tool_result", "tool_use_id": "t1", "content": "12"}, {"type": "text", "text": "go on"}]
    native = translate_request(
        "/v1/messages", {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    )
    assert native["messages"] == [
        {"role": "tool", "content": "12", "tool_call_id": "t1"},
        {"role": "user", "content": "go on"},
    ]
