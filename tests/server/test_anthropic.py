import json
import string

import pytest

from puna.generation import Chunk
from puna.server import translate_request
from puna.server.anthropic.messages import Message
from puna.server.errors import Refused
from puna.server.tools import offered

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
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.org"}]}, "mcp_servers"),
        ({"thinking": {"type": "between_tools"}}, "between_tools"),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "budget_tokens"),
        ({"system": [{"type": "image"}]}, "'image'"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "input_schema"),
        ({"tools": [{"name": "f", "input_schema": {}, "allowed_callers": ["code_execution"]}]}, "code_execution"),
        (
            {"messages": [{"role": "user", "content": [{"type": "search_result", "citations": {"enabled": True}}]}]},
            "citations",
        ),
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


def said(*blocks):
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": list(blocks)}]}
    return [message["content"] for message in translate_request("/v1/messages", body)["messages"]]


def test_documents_and_results_of_searches_are_told_with_their_titles():
    words = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    source = {"type": "content", "content": words}
    document = {"type": "document", "title": "Numbers", "context": "Of a book.", "source": source}
    found = {"type": "search_result", "title": "T", "source": "https://example.org", "content": words}
    assert said(document) == ["Numbers\nOf a book.\none two"]
    assert said(found) == ["T\nhttps://example.org\none two"]


@pytest.mark.parametrize(
    ("content", "told"), [("no such city", "Error: no such city"), ("Error 5: broken", "Error 5: broken")]
)
def test_a_result_that_is_an_error_is_told_as_one(content, told):
    block = {"type": "tool_result", "tool_use_id": "t", "content": content}
    assert said(block | {"is_error": True}) == [told]
    assert said(block) == [content]


def test_examples_of_what_goes_into_a_tool_are_told_with_its_schema():
    tool = {"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}
    body = {"model": "m", "max_tokens": 5, "messages": HELLO, "tools": [tool]}
    (native,) = translate_request("/v1/messages", body)["tools"]
    assert native["function"]["parameters"] == {"type": "object", "examples": [{"a": 1}]}


def test_what_says_nothing_of_the_answer_changes_nothing(live):
    kept = {"cache_control": {"type": "ephemeral"}}
    block = {"type": "text", "text": "hello"} | kept
    more = {"metadata": {"user_id": "u"}, "speed": "standard", "inference_geo": "eu", "service_tier": "auto"}
    asked = {"messages": [{"role": "user", "content": [block]}], "system": [{"type": "text", "text": "x"} | kept]}
    answer = ask(live, max_tokens=3, **asked, **more, **kept).json
    assert answer["content"][0]["text"] == "abc"
    assert answer["usage"]["service_tier"] == "standard"


@pytest.mark.parametrize(
    ("thinking", "options"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, {"num_predict": 5, "num_think": 2000}),
        ({"type": "adaptive"}, {"num_predict": 5}),
        ({"type": "disabled"}, {"num_predict": 5}),
    ],
)
def test_thinking_may_take_as_many_tokens_as_its_budget_has(thinking, options):
    body = {"model": "m", "max_tokens": 5, "messages": HELLO, "thinking": thinking}
    assert translate_request("/v1/messages", body)["options"] == options


def test_thoughts_may_be_left_out_of_an_answer():
    message = Message(omits=True)
    assert [text for _, text in message.take(Chunk(thinking="hm"))] == [""]
    message.take(Chunk("ok", done=True, done_reason="stop"))
    assert message.blocks == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": "ok"},
    ]


def test_a_stop_sequence_that_was_met_is_named(live):
    ask = {"model": "tiny", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    answer = live("POST", "/v1/messages", ask | {"stop_sequences": ["x", "e"]}).json
    assert (answer["content"][0]["text"], answer["stop_reason"], answer["stop_sequence"]) == (
        "abcd",
        "stop_sequence",
        "e",
    )


def test_an_answer_follows_a_schema(live):
    schema = {"type": "object", "properties": {"a": {"enum": ["q"]}}, "required": ["a"], "additionalProperties": False}
    form = {"format": {"type": "json_schema", "schema": schema}}
    ask = {"model": "tiny", "max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
    answer = live("POST", "/v1/messages", ask | {"output_config": form}).json
    assert json.loads(answer["content"][0]["text"]) == {"a": "q"}
    wrong = live("POST", "/v1/messages", ask | {"output_config": {"format": {"type": "xml"}}})
    assert (wrong.status, wrong.json["error"]["type"]) == (400, "invalid_request_error")


def test_documents_that_are_text_are_read(live):
    source = {"type": "text", "media_type": "text/plain", "data": "hello"}
    block = {"type": "document", "source": source}
    counts = [
        live("POST", "/v1/messages/count_tokens", {"model": "tiny", "messages": [{"role": "user", "content": c}]}).json
        for c in ([block], "hello")
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("choice", "left", "must", "several", "allowed"),
    [
        (None, ["one", "two"], None, None, None),
        ("auto", ["one", "two"], None, None, None),
        ("none", None, "none", None, None),
        ({"type": "none"}, None, "none", None, None),
        ("required", ["one", "two"], "required", None, None),
        ({"type": "any"}, ["one", "two"], "required", None, None),
        ({"type": "auto", "disable_parallel_tool_use": True}, ["one", "two"], None, False, None),
        ({"type": "tool", "name": "two"}, ["one", "two"], "required", False, ["two"]),
        ({"type": "function", "name": "two"}, ["one", "two"], "required", False, ["two"]),
        ({"type": "function", "function": {"name": "one"}}, ["one", "two"], "required", False, ["one"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "two"}]},
            *(["one", "two"], "required", None, ["two"]),
        ),
        ({"type": "allowed_tools", "tools": [{"name": "one"}]}, ["one", "two"], None, None, ["one"]),
        ({"type": "allowed_tools", "tools": []}, None, None, None, None),
    ],
)
def test_the_choice_of_tools_says_which_are_offered_and_whether_one_must_come(choice, left, must, several, allowed):
    tools = [{"type": "function", "function": {"name": name}} for name in ("one", "two")]
    found, said, many, few = offered(tools, choice)
    assert (found and [tool["function"]["name"] for tool in found], said, many, few) == (left, must, several, allowed)


def test_a_chosen_tool_has_to_be_there():
    with pytest.raises(Refused, match="'three'"):
        offered([], {"type": "tool", "name": "three"})


def test_models_are_listed_in_anthropics_form_for_its_clients(live):
    listed = live("GET", "/v1/models", anthropic_version="2023-06-01").json
    assert [model["id"] for model in listed["data"]] == [listed["first_id"]] == [listed["last_id"]] == ["tiny:latest"]
    assert listed["has_more"] is False
    one = live("GET", "/v1/models/tiny", anthropic_version="2023-06-01").json
    assert (one["type"], one["id"], one["display_name"]) == ("model", "tiny", "tiny")
