"""`puna export`: a model for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from puna.dtypes import KV_TYPES


@click.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--onnx", "form", flag_value="onnx", default="onnx", help="model.onnx, for onnxruntime (the default).")
@click.option("--mlx", "form", flag_value="mlx", help="A folder that mlx-lm loads.")
@click.option("--context-length", type=click.IntRange(1), help="ONNX: positions that a sequence may have.")
@click.option("--sequences", type=click.IntRange(1), default=1, show_default=True, help="ONNX: sequences at once.")
@click.option(
    "--kv-type", type=click.Choice(KV_TYPES), default="f16", show_default=True, help="ONNX: what K/V is kept as."
)
def command(model: str, folder: Path, form: str, context_length: int | None, sequences: int, kv_type: str) -> None:
    """Write MODEL into FOLDER in the form of another program, which runs it without Puna.

    MODEL is a name in the store, a GGUF file or a checkpoint directory.
    """
    from puna.cli.progress import Progress
    from puna.cli.pull import fetched
    from puna.exporting import export
    from puna.store.blobs import readable_size

    with Progress() as progress:
        paths = export(
            fetched(model),
            folder,
            form,
            context_length=context_length,
            sequences=sequences,
            kv_type=kv_type,
            on_progress=progress.stage("exporting"),
        )
    for path in paths:
        click.echo(f"{path}  {readable_size(path.stat().st_size)}")
