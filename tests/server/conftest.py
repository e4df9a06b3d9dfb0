"""A live server on a port of its own, with a store that holds the tiny model of tests/cli as `tiny`."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

import puna
from cli.tiny import write_tiny
from puna.server.app import make_app
from puna.server.settings import Settings


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Live:
    """A server that runs in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.app = make_app(settings)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    @property
    def models(self) -> Any:
        return self.app.state.server.models

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, dict(error.headers), error.read())

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine with one model."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("PUNA_MODELS", str(folder / "models"))
        patch.setenv("PYTHONPATH", str(Path(puna.__file__).parent.parent))
        patch.delenv("OLLAMA_MODELS", raising=False)
        puna.create("tiny", f"FROM {write_tiny(folder / 'tiny.gguf')}\nPARAMETER temperature 0\n")
        yield folder


@pytest.fixture(scope="module")
def live(home: Path) -> Iterator[Live]:
    server = Live(Settings())
    yield server
    server.close()
