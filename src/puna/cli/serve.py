"""`puna serve`: the server."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import click


@click.command()
@click.option("--host", help="The address to listen on, or address:port; else $PUNA_HOST, else 127.0.0.1:11434.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port.")
@click.option("--open", "unguarded", is_flag=True, help="Listen where others reach it although no key is set.")
def command(host: str | None, port: int | None, unguarded: bool) -> None:
    """Serve the models in the store to clients of Ollama's, OpenAI's and Anthropic's APIs.

    PUNA_API_KEYS lists keys, with commas between: KEY, or infer:KEY for one that may not change the store. Without any,
    an address other than this machine's own needs --open. These variables count too, and OLLAMA_* ones that mean the
    same where they are not set: PUNA_KEEP_ALIVE (5m), PUNA_LOAD_TIMEOUT (5m), PUNA_MAX_QUEUE (512), PUNA_NUM_PARALLEL
    (32), PUNA_MAX_LOADED_MODELS (3), PUNA_MAX_MEMORY, PUNA_CONTEXT_LENGTH, PUNA_KV_CACHE_TYPE, PUNA_BACKEND,
    PUNA_ORIGINS, PUNA_MAX_BODY (64M).
    """
    from puna.cli import Terminated
    from puna.server.address import parse_host
    from puna.server.running import run
    from puna.server.settings import read_settings

    settings = read_settings()
    if host is not None:
        settings = replace(settings, **parse_host(host))  # type: ignore[arg-type]
    if port is not None:
        settings = replace(settings, port=port)
    if not settings.loopback and not settings.keys and not unguarded:
        raise click.UsageError(
            f"{settings.host} is reached by others, and there is no key: PUNA_API_KEYS sets one, --open does without"
        )
    with suppress(Terminated, KeyboardInterrupt):  # which come again once all is answered
        run(settings)
