"""`puna stop`: unload a model."""

import click


@click.command()
@click.argument("model")
def command(model: str) -> None:
    """Unload MODEL from the running server."""
    from puna.cli.remote import require_server
    from puna.errors import ModelNotFound
    from puna.store.name import ModelName

    server = require_server()
    loaded = [each["name"] for each in server.ask("GET", "/api/ps")["models"]]
    wanted = ModelName.parse(model)
    if not any(ModelName.parse(name) == wanted for name in loaded):
        raise ModelNotFound(f"{model}: it is not loaded; loaded: {', '.join(loaded) or 'none'}")
    server.ask("POST", "/api/generate", {"model": model, "keep_alive": 0})
