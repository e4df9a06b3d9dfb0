"""The command `llm` with `llm-ollama`."""

import json
import string
import subprocess
import sys

import pytest


@pytest.fixture
def llm(url, machine):
    """What the command prints."""

    def run(*arguments):
        command = [sys.executable, "-m", "llm", *arguments]
        environment = machine | {"OLLAMA_HOST": url, "LLM_USER_PATH": machine["HOME"]}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_the_models_are_listed(llm):
    listed = llm("models")
    assert "Ollama: tiny:latest" in listed
    assert "Ollama: caller:latest" in listed


def test_a_prompt_is_answered(llm):
    assert llm("-m", "tiny", "hello", "-o", "temperature", "0") == string.ascii_lowercase
    assert llm("-m", "tiny", "hello", "--no-stream", "-s", "Be brief.") == string.ascii_lowercase


def test_an_answer_in_a_form(llm):
    schema = {"type": "object", "properties": {"letter": {"enum": ["q", "r"]}}}
    schema |= {"required": ["letter"], "additionalProperties": False}
    answer = json.loads(llm("-m", "tiny", "hello", "--schema", json.dumps(schema)))
    assert answer in ({"letter": "q"}, {"letter": "r"})


def test_a_tool_is_called(llm):
    weather = "def weather(city: str) -> str:\n    'What the weather is like.'\n    return 'sunny in ' + city\n"
    assert llm("-m", "caller", "hello", "--functions", weather).endswith("It is sunny.")


def test_texts_become_vectors(llm):
    assert len(json.loads(llm("embed", "-m", "tiny:latest", "-c", "hello"))) == 64
