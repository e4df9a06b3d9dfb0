"""`puna stop`: unload a model."""

import click


@click.command()
@click.argument("model")
def command(model: str) -> None:
    """Unload MODEL from the running server."""
    from puna.cli.remote import require_server
    from puna.errors import ModelNotFound

    server = require_server()
    if server.loaded(model) is None:
        loaded = [each["name"] for each in server.ask("GET", "/api/ps")["models"]]
        raise ModelNotFound(f"{model}: it is not loaded; loaded: {', '.join(loaded) or 'none'}")
    server.ask("POST", "/api/generate", {"model": model, "keep_alive": 0})
