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


WAYS = {
    "qwen3-coder": ("PARSER qwen3-coder\n", CALLS),
    "olmo3": ("PARSER olmo3\n", CALLS),
    "gemma4": ("PARSER gemma4-no-thinking\n", CALLS),
    "a go template": (
        'TEMPLATE """{{ .Tools }}{{ range .Messages }}{{ .Content }}{{ if .ToolCalls }}<call>{{ range .ToolCalls }}'
        '{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}</call>{{ end }}{{ end }}'
        '"""\n',
        "",
    ),
}


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


@pytest.mark.parametrize("way", WAYS)
def test_models_call_what_must_be_called_in_whatever_way_they_write_it(live, home, way):
    said, template = WAYS[way]
    name = way.replace(" ", "-")
    more = {"tokenizer__chat_template": template} if template else {}
    path = write_tiny(home / f"{name}.gguf", llama__context_length=1024, **more)
    puna.create(name, f"FROM {path}\n{said}PARAMETER temperature 0\n")
    body = {"model": name, "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
    (choice,) = live("POST", "/v1/chat/completions", body | {"parallel_tool_calls": False}).json["choices"]
    (call,) = choice["message"]["tool_calls"]
    checked(call["function"]["name"], json.loads(call["function"]["arguments"]))
    strict = {"type": "function", "function": FUNCTION | {"strict": True}}
    reply = live("POST", "/v1/chat/completions", body | {"tools": [strict], "tool_choice": "auto", "max_tokens": 5})
    assert reply.status == 200


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "weather"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}},
    ],
)
def test_a_chosen_tool_is_called_and_the_prompt_tells_of_all(live, choice):
    other = {"type": "function", "function": {"name": "aaa", "parameters": UNIT}}
    body = {"model": "caller", "messages": MESSAGES, "tools": [other, TOOL], "parallel_tool_calls": False}
    asked = live("POST", "/v1/chat/completions", body | {"max_tokens": 1}).json["usage"]["prompt_tokens"]
    answer = live("POST", "/v1/chat/completions", body | {"tool_choice": choice}).json
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    checked(call["function"]["name"], json.loads(call["function"]["arguments"]))
    assert answer["usage"]["prompt_tokens"] == asked


def test_an_allowed_tool_has_to_be_there(live):
    body = {"model": "caller", "messages": MESSAGES, "tools": [TOOL], "allowed_tools": ["storm"], "stream": False}
    reply = live("POST", "/api/chat", body)
    assert (reply.status, "'storm'" in reply.json["error"]) == (400, True)


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
