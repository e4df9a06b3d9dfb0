"""The Python package `openai`."""

import base64
import string
from typing import Literal

import openai
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}


class Letter(BaseModel):
    letter: Literal["q", "r"]


class Weather(BaseModel):
    """The weather."""

    city: str


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


def test_chat(client):
    answer = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (string.ascii_lowercase, "stop")
    assert answer.usage.completion_tokens == 27
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_chat_as_a_stream(client):
    ask = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_completion_tokens": 3}
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "abc"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 3


def test_several_answers_with_logprobs(client):
    ask = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 2, "n": 2}
    answer = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    assert [choice.message.content for choice in answer.choices] == ["ab", "ab"]
    assert [each.token for each in answer.choices[0].logprobs.content] == ["a", "b"]
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].token == "a"


def test_a_tool_is_called_and_its_result_sent_back(client):
    answer = client.chat.completions.create(model="caller", messages=HELLO, tools=[WEATHER], temperature=0)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, call.function.arguments) == ("function", "weather", '{"city":"Paris"}')
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    told = [*HELLO, choice.message, result]
    answer = client.chat.completions.create(model="caller", messages=told, tools=[WEATHER], temperature=0)
    assert answer.choices[0].message.content == "It is sunny."


def test_a_tool_is_called_in_a_stream(client):
    with client.chat.completions.stream(model="caller", messages=HELLO, tools=[WEATHER], temperature=0) as stream:
        kinds = [event.type for event in stream]
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.done" in kinds
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Paris"}')


def test_arguments_of_a_tool_are_parsed(client):
    tool = openai.pydantic_function_tool(Weather, name="weather")
    answer = client.chat.completions.parse(model="caller", messages=HELLO, tools=[tool], temperature=0)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Weather(city="Paris")


def test_an_answer_in_a_form_is_parsed(client):
    answer = client.chat.completions.parse(model="tiny", messages=HELLO, response_format=Letter, temperature=0)
    assert answer.choices[0].message.parsed.letter in "qr"
    with client.chat.completions.stream(model="tiny", messages=HELLO, response_format=Letter, temperature=0) as stream:
        assert stream.until_done().get_final_completion().choices[0].message.parsed.letter in "qr"


def test_an_answer_is_stored(client):
    ask = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_completion_tokens": 3}
    stored = client.chat.completions.create(**ask, store=True, metadata={"of": "this"}, service_tier="auto")
    assert stored.service_tier == "default"
    stored = client.chat.completions.retrieve(stored.id)
    assert stored.choices[0].message.content == "abc"
    assert [each.id for each in client.chat.completions.list(metadata={"of": "this"}, limit=1)] == [stored.id]
    (message,) = client.chat.completions.messages.list(stored.id)
    assert (message.role, message.content) == ("user", "hello")
    assert client.chat.completions.update(stored.id, metadata={"of": "that"}).metadata == {"of": "that"}
    assert client.chat.completions.delete(stored.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(stored.id)


def test_a_predicted_answer(client):
    prediction = {"type": "content", "content": string.ascii_lowercase}
    answer = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, prediction=prediction)
    assert answer.choices[0].message.content == string.ascii_lowercase
    details = answer.usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (26, 0)


def test_completions(client):
    answer = client.completions.create(model="tiny", prompt=["m", "x"], temperature=0, logprobs=1)
    assert [choice.text for choice in answer.choices] == ["nopqrstuvwxyz", "yz"]
    assert answer.choices[1].logprobs.tokens[:2] == ["y", "z"]
    chunks = client.completions.create(model="tiny", prompt="x", temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "yz"


def test_embeddings(client):
    packed = client.embeddings.create(model="tiny", input=["one", "two"])
    assert [len(each.embedding) for each in packed.data] == [64, 64]
    plain = client.embeddings.create(model="tiny", input="one", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(packed.data[0].embedding)
    text = client.embeddings.create(model="tiny", input="one", encoding_format="base64").data[0].embedding
    assert len(base64.b64decode(text)) == 256


def test_models(client):
    assert {model.id for model in client.models.list()} >= {"tiny:latest", "caller:latest"}
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="nothing"):
        client.models.retrieve("nothing")


def test_a_response(client):
    answer = client.responses.create(model="tiny", input="hello", temperature=0)
    assert (answer.output_text, answer.status) == (string.ascii_lowercase, "completed")
    assert answer.usage.output_tokens == 27
    more = client.responses.create(model="tiny", input="more", previous_response_id=answer.id, temperature=0)
    assert more.usage.input_tokens > answer.usage.total_tokens
    assert client.responses.retrieve(answer.id).output_text == string.ascii_lowercase
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_a_response_with_logprobs(client):
    ask = {"model": "tiny", "input": "hello", "temperature": 0, "max_output_tokens": 16, "top_logprobs": 2}
    answer = client.responses.create(**ask, include=["message.output_text.logprobs"])
    logprobs = answer.output[0].content[0].logprobs
    assert [each.token for each in logprobs] == list("abcdefghijklmnop")
    assert [len(each.top_logprobs) for each in logprobs] == [2] * 16
    with client.responses.stream(**ask) as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]
    assert [each.token for event in deltas for each in event.logprobs] == list("abcdefghijklmnop")
    count = client.responses.input_tokens.count(model="tiny", input="hello")
    assert count.input_tokens == answer.usage.input_tokens


def test_a_response_that_is_cut_as_a_stream(client):
    with client.responses.stream(model="tiny", input="hello", temperature=0, max_output_tokens=16) as stream:
        events = list(stream)
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == "abcdefghijklmnop"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


def test_a_whole_response_as_a_stream(client):
    with client.responses.stream(model="tiny", input="hello", temperature=0) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert (answer.output_text, answer.status) == (string.ascii_lowercase, "completed")
    assert kinds[-1] == "response.completed"


def test_a_tool_is_called_in_a_response(client):
    tool = {"type": "function", "name": "weather", "strict": True}
    tool["parameters"] = PARAMETERS | {"additionalProperties": False}
    ask = {"model": "caller", "input": "hello", "tools": [tool], "temperature": 0, "reasoning": {"effort": "high"}}
    with client.responses.stream(**ask) as stream:
        list(stream)
        streamed = stream.get_final_response()
    for answer in (client.responses.parse(**ask), streamed):
        thought, call = answer.output
        assert thought.summary[0].text == "I should ask."
        assert (call.type, call.name, call.parsed_arguments) == ("function_call", "weather", {"city": "Paris"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    told = client.responses.create(**ask | {"input": [result]}, previous_response_id=answer.id)
    assert told.output_text == "It is sunny."


def test_a_response_in_a_form_is_parsed(client):
    answer = client.responses.parse(model="tiny", input="hello", text_format=Letter, temperature=0)
    assert answer.output_parsed.letter in "qr"


def test_what_cannot_be_is_an_error(client):
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.chat.completions.create(model="nothing", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nothing", messages=HELLO, stream=True)
    with pytest.raises(openai.BadRequestError, match="256"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 400}])
