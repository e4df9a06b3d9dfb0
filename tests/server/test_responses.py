import json
import string

import pytest

from puna.server import translate_request
from puna.server.errors import Refused
from puna.server.storage import Storage, Stored


def ask(live, **body):
    return live("POST", "/v1/responses", {"model": "tiny", "input": "hello", "temperature": 0, **body})


def events(reply):
    frames = [frame.split(b"\n") for frame in reply.body.strip().split(b"\n\n")]
    return [json.loads(data.removeprefix(b"data: ")) for _, data in frames]


def test_a_response_has_a_message_and_usage(live):
    response = ask(live).json
    (item,) = response["output"]
    assert (item["type"], item["status"], item["content"][0]["text"]) == (
        "message",
        "completed",
        string.ascii_lowercase,
    )
    assert response["status"] == "completed"
    assert response["usage"]["output_tokens"] == 27
    short = ask(live, max_output_tokens=2).json
    assert (short["status"], short["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_a_stream_tells_how_the_response_comes_about(live):
    told = events(ask(live, stream=True, max_output_tokens=2))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]


def test_a_stored_response_is_gone_on_from_read_and_deleted(live):
    first = ask(live, max_output_tokens=3).json
    second = ask(live, previous_response_id=first["id"], input="again", max_output_tokens=1).json
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert live("GET", f"/v1/responses/{first['id']}").json["output"] == first["output"]
    assert live("DELETE", f"/v1/responses/{first['id']}").json["deleted"]
    assert live("GET", f"/v1/responses/{first['id']}").status == 404
    assert ask(live, previous_response_id=first["id"]).status == 404
    assert live("GET", f"/v1/responses/{ask(live, store=False).json['id']}").status == 404


def test_reasoning_text_and_calls_of_one_turn_become_one_message():
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "encrypted_content": "hm"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c", "output": "12"},
    ]
    native = translate_request("/v1/responses", {"model": "m", "input": items})
    call = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    assert native["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ok", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_call_id": "c"},
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"input": 5},
        {"background": True},
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        {"input": [{"type": "dance"}]},
        {"tools": [{"type": "web"}]},
        {"conversation": "conv_1"},
        {"context_management": [{"type": "compaction"}]},
        {"prompt": {"id": "p"}},
        {"moderation": {"model": "m"}},
        {"include": ["everything"]},
        {"text": {"verbosity": "high"}},
        {"reasoning": {"mode": "pro"}},
        {"top_logprobs": 21},
        {"max_output_tokens": 0},
        {"metadata": {"k" * 65: "v"}},
    ],
)
def test_what_is_not_supported_is_400(live, body):
    reply = ask(live, **body)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"


def test_the_oldest_response_goes_where_there_are_too_many():
    storage = Storage(2)
    for name in "abc":
        storage.keep(Stored({"id": name}, []))
    assert storage.find("c").response == {"id": "c"}
    with pytest.raises(Refused, match="'a' not found"):
        storage.find("a")


def test_what_led_to_a_response_is_listed_page_by_page(live):
    first = live("POST", "/v1/responses", {"model": "tiny", "input": "one"}).json
    second = live("POST", "/v1/responses", {"model": "tiny", "input": "two", "previous_response_id": first["id"]}).json
    path = f"/v1/responses/{second['id']}/input_items"
    listed = live("GET", f"{path}?order=asc").json
    assert [(item["type"], item["role"], item["content"][0]["type"]) for item in listed["data"]] == [
        ("message", "user", "input_text"),
        ("message", "assistant", "output_text"),
        ("message", "user", "input_text"),
    ]
    assert [listed["data"][i]["content"][0]["text"] for i in (0, 2)] == ["one", "two"]
    page = live("GET", f"{path}?limit=2").json
    assert (page["has_more"], page["data"][0]["content"][0]["text"]) == (True, "two")
    rest = live("GET", f"{path}?limit=2&after={page['last_id']}").json
    assert (rest["has_more"], [item["content"][0]["text"] for item in rest["data"]]) == (False, ["one"])
    assert live("GET", "/v1/responses/none/input_items").status == 404
    assert live("GET", f"{path}?limit=0").status == 400


@pytest.mark.parametrize("more", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 2}])
def test_a_response_says_how_probable_its_tokens_were_where_that_is_asked_for(live, more):
    response = ask(live, max_output_tokens=3, **more).json
    logprobs = response["output"][0]["content"][0]["logprobs"]
    assert [each["token"] for each in logprobs] == ["a", "b", "c"]
    assert [len(each["top_logprobs"]) for each in logprobs] == [more.get("top_logprobs", 0)] * 3
    assert all(each["logprob"] <= 0 and each["bytes"] == list(each["token"].encode()) for each in logprobs)
    assert response["top_logprobs"] == more.get("top_logprobs", 0)
    told = events(ask(live, max_output_tokens=3, stream=True, **more))
    deltas = [each for event in told if event["type"] == "response.output_text.delta" for each in event["logprobs"]]
    (done,) = (event["logprobs"] for event in told if event["type"] == "response.output_text.done")
    assert deltas == done == logprobs
    assert ask(live, max_output_tokens=3).json["output"][0]["content"][0]["logprobs"] == []


def test_what_a_response_is_told_about_itself_is_said_again(live):
    told = {"safety_identifier": "s", "prompt_cache_key": "k", "user": "u", "metadata": {"a": "b"}, "max_tool_calls": 3}
    response = ask(
        live, max_output_tokens=1, service_tier="priority", include=["reasoning.encrypted_content"], **told
    ).json
    assert {name: response[name] for name in told} == told
    assert response["service_tier"] == "default"


def test_a_stored_response_is_not_streamed_again(live):
    name = ask(live, max_output_tokens=1).json["id"]
    assert live("GET", f"/v1/responses/{name}?stream=true").status == 400
    assert live("GET", f"/v1/responses/{name}?stream=false").status == 200


def test_tokens_of_a_request_are_counted_without_an_answer(live):
    counted = live(
        "POST", "/v1/responses/input_tokens", {"model": "tiny", "input": "hello", "instructions": "be brief"}
    )
    response = ask(live, instructions="be brief", max_output_tokens=1).json
    assert counted.json == {"object": "response.input_tokens", "input_tokens": response["usage"]["input_tokens"]}
