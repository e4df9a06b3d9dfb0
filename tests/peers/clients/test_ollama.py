"""The Python package `ollama`."""

import asyncio
import json
import string
from pathlib import Path

import ollama
import pytest

HELLO = [{"role": "user", "content": "hello"}]


def weather(city: str) -> str:
    """What the weather is like.

    Args:
        city: where
    """
    return f"sunny in {city}"


@pytest.fixture(scope="module")
def client(url):
    return ollama.Client(host=url)


def test_chat(client):
    answer = client.chat("tiny", HELLO)
    assert answer.message.content == string.ascii_lowercase
    assert answer.message.role == "assistant"
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "stop", 27)
    assert answer.prompt_eval_count > 0
    assert answer.total_duration >= answer.eval_duration > 0


def test_chat_as_a_stream(client):
    parts = list(client.chat("tiny", HELLO, stream=True, options={"num_predict": 3}))
    assert [part.message.content for part in parts] == ["a", "b", "c", ""]
    assert parts[-1].done_reason == "length"


def test_chat_without_waiting(url):
    async def answers():
        client = ollama.AsyncClient(host=url)
        whole = await client.chat("tiny", HELLO)
        parts = [part async for part in await client.chat("tiny", HELLO, stream=True)]
        return whole.message.content, "".join(part.message.content for part in parts)

    assert asyncio.run(answers()) == (string.ascii_lowercase, string.ascii_lowercase)


def test_a_tool_is_called_and_its_result_sent_back(client):
    answer = client.chat("caller", HELLO, tools=[weather], think=True)
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Paris"})
    assert answer.message.thinking == "I should ask."
    assert answer.message.content == ""
    result = {"role": "tool", "content": weather(**call.function.arguments), "tool_name": "weather"}
    told = client.chat("caller", [*HELLO, answer.message, result], tools=[weather])
    assert told.message.content == "It is sunny."


def test_a_tool_is_called_in_a_stream(client):
    parts = list(client.chat("caller", HELLO, tools=[weather], think=True, stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert [call.function.arguments for call in calls] == [{"city": "Paris"}]
    assert "".join(part.message.thinking or "" for part in parts) == "I should ask."


def test_an_answer_in_a_form(client):
    properties = {"letter": {"enum": ["q", "r"]}}
    letter = {"type": "object", "properties": properties, "required": ["letter"], "additionalProperties": False}
    answer = client.chat("tiny", HELLO, format=letter)
    assert json.loads(answer.message.content) in ({"letter": "q"}, {"letter": "r"})


def test_logprobs(client):
    answer = client.chat("tiny", HELLO, logprobs=True, top_logprobs=2, options={"num_predict": 2})
    assert [each.token for each in answer.logprobs] == ["a", "b"]
    assert [each.top_logprobs[0].token for each in answer.logprobs] == ["a", "b"]


def test_generate(client):
    answer = client.generate("tiny", "m", raw=True)
    assert answer.response == "nopqrstuvwxyz"
    parts = list(client.generate("tiny", "x", raw=True, stream=True))
    assert [part.response for part in parts] == ["y", "z", ""]
    context = client.generate("tiny", "hello").context
    assert client.generate("tiny", "again", context=context).response == string.ascii_lowercase


def test_a_model_is_loaded_and_unloaded(client):
    assert client.generate("tiny", keep_alive="1h").done_reason == "load"
    assert "tiny:latest" in [model.model for model in client.ps().models]
    assert client.generate("tiny", keep_alive=0).done_reason == "unload"
    assert "tiny:latest" not in [model.model for model in client.ps().models]


def test_embed(client):
    answer = client.embed("tiny", ["one", "two"])
    assert [len(row) for row in answer.embeddings] == [64, 64]
    assert len(client.embed("tiny", "one", dimensions=8).embeddings[0]) == 8
    assert len(client.embeddings("tiny", "one").embedding) == 64


def test_what_there_is(client):
    assert {model.model for model in client.list().models} >= {"tiny:latest", "caller:latest"}
    assert all(model.size > 0 and model.details.format == "gguf" for model in client.list().models)
    shown = client.show("caller")
    assert set(shown.capabilities) == {"completion", "tools", "thinking"}
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.details.family == "llama"
    assert "FROM" in shown.modelfile


def test_what_is_loaded(client):
    client.generate("tiny")
    (model,) = [model for model in client.ps().models if model.model == "tiny:latest"]
    assert (model.name, model.context_length) == ("tiny:latest", 256)
    assert model.expires_at.tzinfo is not None


def test_a_model_is_made_copied_and_deleted(client):
    assert client.create("short", from_="tiny", parameters={"num_predict": 2}, system="Be brief.").status == "success"
    assert client.chat("short", HELLO).message.content == "ab"
    assert [step.status for step in client.create("short2", from_="short", stream=True)][-1] == "success"
    assert client.copy("short", "again").status == "success"
    assert client.show("again").parameters.split() == ["num_predict", "2", "temperature", "0"]
    for name in ("short", "short2", "again"):
        assert client.delete(name).status == "success"
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("again")
    assert caught.value.status_code == 404


def test_a_model_is_made_of_a_file(client, machine):
    digest = client.create_blob(Path(machine["HOME"]) / "tiny.gguf")
    client.create("copied", files={"tiny.gguf": digest})
    assert client.chat("copied", HELLO, options={"temperature": 0}).message.content == string.ascii_lowercase
    client.delete("copied")


def test_what_cannot_be_is_an_error(client):
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        client.chat("nothing", HELLO)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError):
        client.chat("nothing", HELLO, stream=True).__next__()
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        client.chat("tiny", HELLO, tools=[weather])
    with pytest.raises(ollama.ResponseError):
        client.pull("no such name!")
    with pytest.raises(ollama.ResponseError):
        list(client.pull("no such name!", stream=True))
