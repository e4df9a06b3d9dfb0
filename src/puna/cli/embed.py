"""`puna embed`: vectors of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click


@click.command()
@click.argument("model")
@click.argument("texts", metavar="TEXT...", nargs=-1)
@click.option("--dimensions", type=click.IntRange(1), help="How many numbers of each vector; else all.")
@click.option("--prompt", metavar="NAME", help="Which of the model's prompts goes before each; else its default.")
@click.option("--truncate", is_flag=True, help="Cut a text that does not fit; else it is an error.")
@click.option("--local", is_flag=True, help="Compute in this process even where a server runs.")
def command(
    model: str, texts: tuple[str, ...], dimensions: int | None, prompt: str | None, truncate: bool, local: bool
) -> None:
    """Print the vector of each TEXT, or of each line of standard input, as a line of JSON.

    A running server that has MODEL computes them; without one, this process does.
    """
    from puna.cli.run import piped, require_utf8

    require_utf8("TEXT", *texts)
    given = list(texts) or "".join(piped()).splitlines()
    if not given:
        raise click.UsageError("no text: give some as arguments, or lines on standard input")
    for vector in vectors(model, given, dimensions, prompt, truncate, local):
        click.echo(json.dumps(vector))


def vectors(
    model: str, texts: Sequence[str], dimensions: int | None, prompt: str | None, truncate: bool, local: bool
) -> list[list[float]]:
    """A vector of unit length for each text, from a server that has the model, else from this process."""
    from puna.cli.pull import fetched
    from puna.cli.remote import find_host
    from puna.loading import load

    server = None if local else find_host(model)[0]
    if server:
        asked = {"model": model, "input": list(texts), "truncate": truncate}
        asked |= {"dimensions": dimensions, "prompt_name": prompt}
        return list(server.ask("POST", "/api/embed", asked)["embeddings"])
    options = {"dimensions": dimensions, "truncate": truncate, "prompt_name": prompt}
    embedded = load(fetched(model)).embed(list(texts), normalize=True, **options)  # type: ignore[arg-type]
    return [list(map(float, vector)) for vector in embedded]
