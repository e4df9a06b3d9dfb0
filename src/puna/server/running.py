"""Running the server until it is told to end: requests under way are answered first."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from puna.errors import RequestError
from puna.server.app import make_app
from puna.server.settings import Settings

DRAIN_SECONDS = 30
"""How long requests under way may take once the server is to end."""
HURRY_SECONDS = 3
"""The same where somebody waits at a keyboard."""


class _Server(uvicorn.Server):
    """Ends sooner at Ctrl-C; what is cut off then is nobody's error."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT:
            self.config.timeout_graceful_shutdown = HURRY_SECONDS
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C; a second one ends it at once. RequestError where the address is taken."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with _listening(settings.host, settings.port) as listening:
        port = listening.getsockname()[1]
        logging.getLogger("puna").info("Puna serves at http://%s:%d", settings.host, port)
        config = uvicorn.Config(
            make_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN_SECONDS
        )
        _Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        said = (error.strerror or str(error)).partition(" (")[0]
        raise RequestError(f"serving at {host}:{port}: {said}; --port takes another, 0 any that is free") from error
