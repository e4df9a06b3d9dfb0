"""The npm package `ollama`, with Node and npm as they are installed."""

import json
import string
import subprocess

import pytest

PACKAGE = "ollama@0.6"
ASKED = """
import { Ollama } from 'ollama'
const ollama = new Ollama({ host: process.argv[2] })
const messages = [{ role: 'user', content: 'hello' }]
const parameters = { type: 'object', properties: { city: { type: 'string' } } }
const tools = [{ type: 'function', function: { name: 'weather', description: 'The weather.', parameters } }]
const said = {}
said.chat = (await ollama.chat({ model: 'tiny', messages })).message.content
said.stream = ''
const stream = await ollama.chat({ model: 'tiny', messages, stream: true })
for await (const part of stream) said.stream += part.message.content
said.call = (await ollama.chat({ model: 'caller', messages, tools, think: true })).message
said.generate = (await ollama.generate({ model: 'tiny', prompt: 'x', raw: true })).response
said.embed = (await ollama.embed({ model: 'tiny', input: ['one', 'two'] })).embeddings.map((row) => row.length)
said.list = (await ollama.list()).models.map((model) => model.name)
said.ps = (await ollama.ps()).models.map((model) => model.name)
said.show = (await ollama.show({ model: 'caller' })).capabilities
said.create = (await ollama.create({ model: 'js', from: 'tiny', parameters: { num_predict: 2 } })).status
said.made = (await ollama.chat({ model: 'js', messages })).message.content
said.copy = (await ollama.copy({ source: 'js', destination: 'js2' })).status
said.delete = [(await ollama.delete({ model: 'js' })).status, (await ollama.delete({ model: 'js2' })).status]
said.missing = await ollama.chat({ model: 'nothing', messages }).catch((error) => error.message)
console.log(JSON.stringify(said))
"""


@pytest.fixture(scope="module")
def said(url, machine, tmp_path_factory):
    """What a script heard."""
    folder = tmp_path_factory.mktemp("npm")
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", PACKAGE], cwd=folder, check=True, capture_output=True)
    (folder / "ask.mjs").write_text(ASKED)
    done = subprocess.run(["node", "ask.mjs", url], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_answers_are_heard(said):
    assert (said["chat"], said["stream"], said["generate"]) == (string.ascii_lowercase, string.ascii_lowercase, "yz")
    assert said["embed"] == [64, 64]


def test_a_tool_is_called(said):
    assert said["call"]["thinking"] == "I should ask."
    (call,) = said["call"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("weather", {"city": "Paris"})


def test_models_are_listed_made_copied_and_deleted(said):
    assert {"tiny:latest", "caller:latest"} <= set(said["list"])
    assert "tiny:latest" in said["ps"]
    assert set(said["show"]) == {"completion", "tools", "thinking"}
    assert (said["create"], said["made"], said["copy"]) == ("success", "ab", "success")
    assert said["delete"] == ["success", "success"]
    assert "not found" in said["missing"]
