"""`puna new-arch`: an architecture nobody knows yet, taken as one that is built alike, or begun as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from puna.create.starting import Start

FOLDER = Path("src/puna/arch")
"""Where architectures are, in a clone."""


@click.command()
@click.argument("name")
@click.option("--from", "source", required=True, metavar="HF_DIR", help="A checkpoint directory, or hf.co/USER/REPO.")
@click.option("--like", metavar="ARCH", help="The only architecture to compare with, and to begin from.")
@click.option(
    "--file", "path", type=click.Path(path_type=Path), help="The file to begin. [default: src/puna/arch/NAME.py]"
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The GGUF file to write. [default: NAME.gguf]")
def command(name: str, source: str, like: str | None, path: Path | None, out: Path | None) -> None:
    """Find out what a checkpoint of an unknown architecture is built like, and begin with it.

    Where tensors, shapes and config.json are those of a known architecture, the checkpoint is converted as that. Else,
    or with --file, a file for NAME is begun from the closest one; docs/add-an-architecture.md goes on from there.
    """
    from puna.cli.pull import fetched
    from puna.create.references import source_path
    from puna.create.source import find_weights
    from puna.create.starting import start

    root = source_path(fetched(source))
    begun = start(name, find_weights(root) if root.is_dir() else root, like)
    if begun.original and path is None:
        _convert(begun, out or Path(f"{name}.gguf"))
    else:
        _begin(begun, path or FOLDER / f"{name.replace('-', '_')}.py")


def _convert(begun: Start, out: Path) -> None:
    from puna.cli.progress import Progress
    from puna.create.convert import convert
    from puna.errors import ConversionError

    if out.exists():
        raise ConversionError(f"new-arch: {out} is there already; --out names another file")
    if begun.original is None:
        return
    with Progress() as progress:
        convert(begun.original, out, on_progress=progress.stage("converting"))
    first, *others = dict.fromkeys(arch.name for arch in begun.alike.values())
    more = f" {', '.join(others)} fit as well: --like says which." if others else ""
    click.echo(
        f"warning: '{begun.hf_class}' is unknown; tensors, shapes and config are those of '{first}', and {out} was "
        f"converted as that. Names do not tell what is computed:{more} "
        f"`puna verify {out} --against {begun.root} --reference transformers` does.",
        err=True,
    )


def _begin(begun: Start, path: Path) -> None:
    from puna.create.starting import text_of
    from puna.errors import ConversionError

    if path.exists():
        raise ConversionError(f"new-arch: {path} is there already; --file names another one")
    if not path.parent.is_dir():
        raise ConversionError(f"new-arch: there is no directory {path.parent}; --file says another place")
    path.write_text(text_of(begun), "utf-8")
    closest = begun.closest
    click.echo(f"{path} is begun from {closest}: {len(closest.claimed)} kinds of tensors have their place.")
    for title, names in (("no place yet", closest.unclaimed), ("needed, not there", closest.missing)):
        for each in names:
            click.echo(f"{title}: {each}")
    for key in begun.strange:
        click.echo(f"not heeded: config.json's '{key}'")
    if reason := begun.reasons.get(closest.arch.name):
        click.echo(f"read as {closest.arch.name}: {reason}")
    click.echo("docs/add-an-architecture.md goes on from there")
