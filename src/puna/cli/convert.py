"""`puna convert`: a checkpoint to one GGUF file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--dtype", default="auto", show_default=True, help="What matrices become: auto, f32, f16, bf16.")
@click.option("-q", "--quantize", help="A quantization type or mix: Q8_0, Q4_K_M ...")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(source: Path, out: Path, dtype: str, quantize: str | None, dry_run: bool) -> None:
    """Convert SOURCE, a checkpoint directory or a GGUF file, to the GGUF file OUT."""
    from puna.cli.progress import Progress
    from puna.create.convert import convert
    from puna.store.blobs import readable_size

    with Progress() as progress:
        report = convert(
            source, out, dtype=dtype, quantize=quantize, dry_run=dry_run, on_progress=progress.stage("converting")
        )
    if dry_run:
        for tensor in report.tensors:
            shape = " x ".join(map(str, tensor.shape))
            click.echo(f"{tensor.name:40} {shape:>16}  {tensor.source_dtype:>5} -> {tensor.dtype:5} {tensor.transform}")
    verb = "would be" if dry_run else "are"
    click.echo(
        f"{len(report.tensors)} tensors of {report.parameters:,} parameters {verb} {readable_size(report.nbytes)}"
    )
