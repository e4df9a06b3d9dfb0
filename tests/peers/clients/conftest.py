"""A live `puna serve` with models whose answers are known, and every test here marked `clients`."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import puna
from cli.tiny import write_tiny
from golden import rerankers
from peers.clients.scripted import write_scripted

PACKAGES = ("anthropic", "langchain_ollama", "litellm", "llm", "llm_ollama", "ollama", "openai")
DOCUMENT = "test_document.py"
"""What asks by the OpenAPI document, and needs nothing but schemathesis."""

# Without them nothing here can be imported, and `-m clients` says that nothing was found to run.
collect_ignore = [] if find_spec("schemathesis") else [DOCUMENT]
if not all(find_spec(name) for name in PACKAGES):
    collect_ignore += [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != DOCUMENT]

SCRIPT = (
    "<think>\n",
    "I should ask.",
    "\n</think>\n\n",
    "<tool_call>\n",
    '{"name": "weather", ',
    '"arguments": ',
    '{"city": "Paris"}}',
    "\n</tool_call>",
)
TOLD = ("It is ", "sunny.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("clients")
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # what clients warn of is theirs


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine with the models `tiny`, `caller` and `judge`."""
    home = tmp_path_factory.mktemp("home")
    paths = os.pathsep.join([str(Path(puna.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PUNA_", "OLLAMA_"))}
    environment |= {"HOME": str(home), "PUNA_MODELS": str(home / "models"), "PYTHONPATH": paths}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUNA_MODELS", environment["PUNA_MODELS"])
        puna.create("tiny", f"FROM {write_tiny(home / 'tiny.gguf')}\nPARAMETER temperature 0\n")
        tensors = json.loads(rerankers.RECORD.read_text("utf-8"))["bert"]["tensors"]
        puna.create("judge", f"FROM {rerankers.write(home / 'judge', 'bert', tensors)}\n")
        puna.create("caller", f"FROM {write_scripted(home / 'caller.gguf', SCRIPT, TOLD)}\nPARAMETER temperature 0\n")
    return environment


@pytest.fixture(scope="session")
def url(machine: dict[str, str]) -> Iterator[str]:
    """Where the server is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "puna", "serve", "--port", str(port)]
    server = subprocess.Popen(command, env=machine)
    address = f"http://127.0.0.1:{port}"
    while not _answers(address):
        assert server.poll() is None, "the server ended"
        time.sleep(0.05)
    yield address
    server.terminate()
    assert server.wait(20) == 0


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except urllib.error.URLError:
        return False
