"""`puna merge`: fold adapters into their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from puna.cli.options import dtype_option, quantizing_options


@click.command()
@click.argument("base")
@click.argument("adapters", nargs=-1, metavar="[ADAPTER]...")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The GGUF file to write.")
@click.option(
    "--scale",
    "scales",
    type=float,
    multiple=True,
    help="A factor for the change of an adapter; given once it is for all, else one for each.",
)
@dtype_option
@quantizing_options
def command(base: str, adapters: tuple[str, ...], out: Path, scales: tuple[float, ...], **wanted: Any) -> None:
    """Fold each ADAPTER, a PEFT directory or a GGUF adapter, into BASE.

    BASE is a checkpoint directory, a GGUF file or a name in the store, whose own adapters come first.
    """
    from puna.cli.progress import Progress
    from puna.create.adapters.merge import merge
    from puna.store.blobs import readable_size

    if len(scales) not in (0, 1, len(adapters)):
        raise click.UsageError(f"{len(scales)} --scale for {len(adapters)} adapters; one, or one for each, works")
    factors = scales if len(scales) == len(adapters) else (scales or (1.0,)) * len(adapters)
    named = list(zip(adapters, factors, strict=True))
    with Progress() as progress:
        report = merge(base, named, out, on_progress=progress.stage("merging"), **wanted)
    for warning in report.warnings:
        click.echo(f"note: {warning}", err=True)
    changed = sum(" + " in tensor.source for tensor in report.tensors)
    click.echo(f"{changed} of {len(report.tensors)} tensors are changed; {readable_size(report.nbytes)}")
