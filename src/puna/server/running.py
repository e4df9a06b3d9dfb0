"""Running the server until it is told to end: requests under way are answered first."""

from __future__ import annotations

import logging
import sys

import uvicorn

from puna.server.app import make_app
from puna.server.settings import Settings

DRAIN_SECONDS = 30
"""How long requests under way may take once the server is to end."""


def run(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C; a second one ends it at once."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    config = uvicorn.Config(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    uvicorn.Server(config).run()
