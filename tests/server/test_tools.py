"""Tools that have to be called, asked for in every API of a live server."""

import json

import pytest

import puna
from cli.tiny import TEMPLATE, write_tiny

CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    + TEMPLATE
    + '{% if 0 %}<tool_call>\n{"name": "f", "arguments": {}}</tool_call>{% endif %}'
)
UNIT = {"type": "object", "properties": {"unit": {"enum": ["C", "F"]}}, "required": ["unit"]}
FUNCTION = {"name": "weather", "description": "", "parameters": UNIT}
TOOL = {"type": "function", "function": FUNCTION}
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module", autouse=True)
def caller(home):
    path = write_tiny(home / "caller.gguf", tokenizer__chat_template=CALLS, llama__context_length=1024)
    puna.create("caller", f"FROM {path}\nPARSER qwen3-vl-instruct\nPARAMETER temperature 0\n")


def checked(name, arguments):
    assert name == "weather"
    assert arguments in ({"unit": "C"}, {"unit": "F"})


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_chat_completions_call_what_must_be_called(live, choice):
    body = {
        "model": "caller",
        "messages": MESSAGES,
        "tools": [TOOL],
        "tool_choice": choice,
        "parallel_tool_calls": False,
    }
    (said,) = live("POST", "/v1/chat/completions", body).json["choices"]
    (call,) = said["message"]["tool_calls"]
    checked(call["function"]["name"], json.loads(call["function"]["arguments"]))
    assert said["finish_reason"] == "tool_calls"


def test_responses_call_what_must_be_called(live):
    body = {"model": "caller", "input": "hello", "tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"}
    item = live("POST", "/v1/responses", body).json["output"][0]
    checked(item["name"], json.loads(item["arguments"]))


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_messages_call_what_must_be_called(live, choice):
    tool = {"name": "weather", "input_schema": UNIT}
    body = {"model": "caller", "max_tokens": 300, "messages": MESSAGES, "tools": [tool], "tool_choice": choice}
    answer = live("POST", "/v1/messages", body).json
    checked(answer["content"][0]["name"], answer["content"][0]["input"])
    assert answer["stop_reason"] == "tool_use"


def test_ollamas_chat_calls_what_must_be_called_too(live):
    body = {"model": "caller", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required", "stream": False}
    call = live("POST", "/api/chat", body).json["message"]["tool_calls"][0]
    checked(call["function"]["name"], call["function"]["arguments"])


def test_a_schema_that_cannot_be_held_to_is_refused_by_tool_and_keyword(live):
    wrong = {"name": "odd", "parameters": {"type": "object", "unevaluatedProperties": False}}
    tools = [TOOL, {"type": "function", "function": wrong}]
    reply = live(
        "POST",
        "/v1/chat/completions",
        {"model": "caller", "messages": MESSAGES, "tools": tools, "tool_choice": "required"},
    )
    assert reply.status == 400
    assert "'odd'" in reply.json["error"]["message"]
    assert "unevaluatedProperties" in reply.json["error"]["message"]


def test_a_choice_without_tools_is_refused(live):
    reply = live("POST", "/v1/chat/completions", {"model": "caller", "messages": MESSAGES, "tool_choice": "required"})
    assert (reply.status, "no tools" in reply.json["error"]["message"]) == (400, True)
