"""`litellm`, by way of each API."""

import json
import os
import string

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it asks the network for prices otherwise

import litellm

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}
ROADS = ("ollama_chat", "openai", "anthropic")


@pytest.fixture(params=ROADS)
def to(request, url):
    """How a model is asked for, by one API."""
    base = {"ollama_chat": url, "openai": f"{url}/v1", "anthropic": url}[request.param]

    def ask(model):
        return {"model": f"{request.param}/{model}", "api_base": base, "api_key": "unused", "messages": HELLO}

    return ask


def test_an_answer_has_its_text_and_usage(to):
    answer = litellm.completion(**to("tiny"), temperature=0, max_tokens=100)
    assert answer.choices[0].message.content == string.ascii_lowercase
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 27


def test_an_answer_streams(to):
    parts = litellm.completion(**to("tiny"), temperature=0, max_tokens=100, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == string.ascii_lowercase


def test_a_tool_is_called_and_its_result_sent_back(to):
    ask = to("caller") | {"tools": [WEATHER], "max_tokens": 2000}
    message = litellm.completion(**ask).choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    told = [*HELLO, message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert litellm.completion(**ask | {"messages": told}).choices[0].message.content == "It is sunny."


def test_a_tool_is_called_in_a_stream(to):
    parts = list(litellm.completion(**to("caller"), tools=[WEATHER], max_tokens=2000, stream=True))
    (call,) = litellm.stream_chunk_builder(parts).choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})


def test_a_text_is_continued(url):
    ask = {"model": "ollama/tiny", "api_base": url, "messages": HELLO, "temperature": 0}
    assert litellm.completion(**ask).choices[0].message.content == string.ascii_lowercase


def test_texts_become_vectors(url):
    for model, base in (("ollama/tiny", url), ("openai/tiny", f"{url}/v1")):
        answer = litellm.embedding(model=model, input=["one", "two"], api_base=base, api_key="unused")
        assert [len(each["embedding"]) for each in answer.data] == [64, 64]


def test_what_cannot_be_is_an_error(to):
    with pytest.raises((litellm.NotFoundError, litellm.APIConnectionError), match="not found"):
        litellm.completion(**to("nothing"), max_tokens=1)
