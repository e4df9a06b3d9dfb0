"""`langchain-ollama`."""

import string
from typing import Literal

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel


class Letter(BaseModel):
    """A letter."""

    letter: Literal["q", "r"]


@tool
def weather(city: str) -> str:
    """What the weather is like."""
    return f"sunny in {city}"


@pytest.fixture(scope="module")
def tiny(url):
    return ChatOllama(model="tiny", base_url=url, temperature=0, validate_model_on_init=True)


def test_an_answer_has_its_text_and_usage(tiny):
    answer = tiny.invoke("hello")
    assert answer.content == string.ascii_lowercase
    assert answer.usage_metadata["output_tokens"] == 27
    assert answer.response_metadata["done_reason"] == "stop"


def test_an_answer_streams(tiny):
    assert "".join(part.content for part in tiny.stream("hello")) == string.ascii_lowercase


def test_a_tool_is_called_and_its_result_sent_back(url):
    model = ChatOllama(model="caller", base_url=url, temperature=0, reasoning=True).bind_tools([weather])
    answer = model.invoke("hello")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    assert answer.additional_kwargs["reasoning_content"] == "I should ask."
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert model.invoke([HumanMessage("hello"), answer, result]).content == "It is sunny."


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_an_answer_in_a_form_is_parsed(tiny, method):
    if method == "json_mode":
        assert tiny.with_structured_output(None, method=method).invoke("hello") is not None
    else:
        assert tiny.with_structured_output(Letter, method=method).invoke("hello").letter in "qr"


def test_a_text_is_continued(url):
    assert OllamaLLM(model="tiny", base_url=url, temperature=0).invoke("hello") == string.ascii_lowercase


def test_texts_become_vectors(url):
    embeddings = OllamaEmbeddings(model="tiny", base_url=url)
    assert [len(row) for row in embeddings.embed_documents(["one", "two"])] == [64, 64]
    assert len(embeddings.embed_query("one")) == 64
